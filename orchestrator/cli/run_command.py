"""``axis run``: carry the plan out, then say what came of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.hardware import choose_hardware
from orchestrator.cli.plan_command import load_checked
from orchestrator.observe.display import choose_display
from orchestrator.runtime.submit.submission import SUBMITTED_TO

if TYPE_CHECKING:
    from orchestrator.observe.facts import ForecastFacts
    from orchestrator.runtime.run import Ended, RunOptions

REPORT_FILE = "report.md"


def run_plan_file(
    path: str,
    overrides: list[str],
    fresh: bool,
    keep_serving: bool,
    address: str | None,
    num_cpus: int | None,
    hardware: str | None,
    as_json: bool,
) -> int:
    """Run the plan in the file; returns the exit code. Raises ``AxisError`` for a refusal."""
    loaded = load_checked(path, overrides)
    chosen = choose_hardware(hardware)
    if chosen.problem:
        typer.echo(f"warning: nothing is predicted: {chosen.problem}", err=True)
    # Only now: a plan that is wrong is told so in a fraction of a second.
    from orchestrator.runtime.run import RunOptions, run_plan

    options = RunOptions(fresh, keep_serving, address, num_cpus, chosen.device)
    display = choose_display(as_json)
    try:
        ended = run_plan(loaded, options, display)
    finally:
        display.close()
    _tell(ended, _again(path, overrides, options), as_json)
    return ended.end.exit_code


def _again(path: str, overrides: list[str], options: RunOptions) -> str:
    """The command that goes on with the run, as a shell takes it where it was started."""
    if url := os.environ.get(SUBMITTED_TO):
        return shlex.join(["axis", "submit", path, *overrides, "--address", url])
    words = ["axis", "run", path, *overrides]
    if options.address is not None:
        words += ["--address", options.address]
    if options.num_cpus is not None:
        words += ["--num-cpus", str(options.num_cpus)]
    return shlex.join(words)


def _forecast(ended: Ended) -> ForecastFacts | None:
    """The run's prediction beside its measurement, or why there is none: never a failure."""
    from orchestrator.observe.facts import ForecastFacts
    from orchestrator.runtime.forecasting import compare_run, comparison_rows

    try:
        found = compare_run(ended.run)
    except Exception as error:
        return ForecastFacts(missing=f"no comparison: {type(error).__name__}: {error}")
    if found is None:
        return None
    return ForecastFacts(
        rows=tuple(comparison_rows(found)),
        limited=found.limited,
        would_help=found.would_help,
        missing=found.no_prediction,
    )


def _tell(ended: Ended, command: str, as_json: bool) -> None:
    from orchestrator.observe.facts import gather_facts
    from orchestrator.observe.report import render_report
    from orchestrator.observe.summary import render_summary

    facts = gather_facts(
        ended.base,
        ended.name,
        command=command,
        request_url=ended.request_url,
        places={"report": ended.run.child(REPORT_FILE).name},
        forecast=_forecast(ended),
    )
    ended.run.write_atomic(REPORT_FILE, render_report(facts).encode())
    if as_json:
        fields = {
            "kind": "end",
            "exit_code": ended.end.exit_code,
            "message": ended.end.message,
            "user_traceback": ended.end.user_traceback,
            "run": ended.run.uri,
            "report": f"{ended.run.uri}/{REPORT_FILE}",
            "limited": facts.forecast.limited if facts.forecast else "",
        }
        typer.echo(json.dumps(fields))
        return
    if ended.end.user_traceback:
        typer.echo(ended.end.user_traceback, err=True)
    if sys.stdout.isatty():
        typer.echo("\n" + render_summary(facts, shutil.get_terminal_size().columns), nl=False)
    else:
        typer.echo(render_summary(facts), nl=False)
