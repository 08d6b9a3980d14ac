"""``axis plan``: what would ``axis run`` do with this plan? Answered without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from orchestrator.cli.hardware import choose_hardware
from orchestrator.cli.plan_forecast import forecast_view, shown_counts
from orchestrator.cli.plan_text import plan_text
from orchestrator.cli.plan_view import plan_view
from orchestrator.errors import JobError, PlanError
from orchestrator.plan.load import LoadedPlan, load_plan
from orchestrator.plan.split_checks import needs_split
from orchestrator.plan.static_job import check_targets


def show_plan(path: str, overrides: list[str], as_json: bool, hardware: str | None = None) -> None:
    """Load, check, predict and print. Raises ``PlanError`` with everything that is wrong."""
    loaded = load_checked(path, overrides)
    chosen = choose_hardware(hardware)
    view = plan_view(loaded.plan, check_mesh(loaded))
    counts = shown_counts([size["workers"] for size in view["sizes"]])
    view["prediction"] = forecast_view(loaded.plan, counts, chosen)
    typer.echo(json.dumps(view, indent=2) if as_json else plan_text(loaded.plan, view))


def load_checked(path: str, overrides: list[str]) -> LoadedPlan:
    """The plan, with the Job's module and class looked up without importing it."""
    loaded = load_plan(path, overrides)
    problems = check_targets(loaded.plan, Path.cwd())
    if problems:
        raise PlanError([loaded.locate(problem) for problem in problems], loaded.source)
    return loaded


def check_mesh(loaded: LoadedPlan) -> list[str]:
    """Whether the Job's model can be cut as the mesh asks; the Job is imported only to be asked.

    Raises ``PlanError`` where it cannot. Returns warnings: of a Job that cannot be imported here,
    where the plan is looked at, it may still be possible where it is run.
    """
    if not needs_split(loaded.plan):
        return []
    # Only now: the Job's module may take its time.
    from orchestrator.job_import import add_working_directory, load_job_for_mesh

    add_working_directory()
    try:
        load_job_for_mesh(loaded)
    except JobError as error:
        reasons = "; ".join(problem.sentence() for problem in error.problems)
        return [f"whether the model can be cut as the mesh asks is not known: {reasons}"]
    return []
