"""``axis plan``: what would ``axis run`` do with this plan? Answered without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from orchestrator.cli.plan_text import plan_text
from orchestrator.cli.plan_view import plan_view
from orchestrator.errors import PlanError
from orchestrator.plan.load import LoadedPlan, load_plan
from orchestrator.plan.static_job import check_targets


def show_plan(path: str, overrides: list[str], as_json: bool) -> None:
    """Load, check and print. Raises ``PlanError`` with everything that is wrong."""
    plan = load_checked(path, overrides).plan
    view = plan_view(plan)
    typer.echo(json.dumps(view, indent=2) if as_json else plan_text(plan, view))


def load_checked(path: str, overrides: list[str]) -> LoadedPlan:
    """The plan, with the Job's module and class looked up without importing it."""
    loaded = load_plan(path, overrides)
    problems = check_targets(loaded.plan, Path.cwd())
    if problems:
        raise PlanError([loaded.locate(problem) for problem in problems], loaded.source)
    return loaded
