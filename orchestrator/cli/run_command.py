"""``axis run``: carry the plan out, then say what came of it."""

from __future__ import annotations

import json
import shlex

import typer

from orchestrator.cli.plan_command import load_checked
from orchestrator.observe.display import choose_display
from orchestrator.observe.facts import gather_facts
from orchestrator.observe.report import render_report
from orchestrator.observe.summary import render_summary
from orchestrator.runtime.run import Ended, RunOptions, run_plan

REPORT_FILE = "report.md"


def run_plan_file(
    path: str,
    overrides: list[str],
    fresh: bool,
    keep_serving: bool,
    address: str | None,
    num_cpus: int | None,
    as_json: bool,
) -> int:
    """Run the plan in the file; returns the exit code. Raises ``AxisError`` for a refusal."""
    loaded = load_checked(path, overrides)
    options = RunOptions(fresh, keep_serving, address, num_cpus)
    display = choose_display(as_json)
    try:
        ended = run_plan(loaded, options, display)
    finally:
        display.close()
    _tell(ended, shlex.join(["axis", "run", path, *overrides]), as_json)
    return ended.end.exit_code


def _tell(ended: Ended, command: str, as_json: bool) -> None:
    facts = gather_facts(
        ended.base,
        ended.name,
        command=command,
        request_url=ended.request_url,
        places={"report": ended.run.child(REPORT_FILE).name},
    )
    ended.run.write_atomic(REPORT_FILE, render_report(facts).encode())
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "kind": "end",
                    "exit_code": ended.end.exit_code,
                    "message": ended.end.message,
                    "run": ended.run.uri,
                    "report": f"{ended.run.uri}/{REPORT_FILE}",
                }
            )
        )
        return
    if ended.end.user_traceback:
        typer.echo(ended.end.user_traceback, err=True)
    typer.echo(render_summary(facts))
