"""``axis design``: what should this workload be? Answered without a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from orchestrator.errors import InfeasibleError, PlanError, Problem, StorageError
from orchestrator.planner.design import (
    Design,
    design,
    design_values,
    parse_workload,
    plan_yaml,
    radar_svg,
    worksheet,
)
from orchestrator.planner.design.plan_file import MARK as PLAN_MARK
from orchestrator.planner.design.radar import MARK as RADAR_MARK


def show_design(
    path: str,
    overrides: Sequence[str],
    as_json: bool,
    radar: str | None = None,
    plan: str | None = None,
) -> int:
    """Print the worksheet, or JSON; write the radar chart and the plan where they are asked for.

    Returns the exit code: 0, or 3 where something that is asked for cannot be had; the design is
    shown all the same. Raises ``PlanError`` for a workload that cannot be meant.
    """
    loaded = parse_workload(_read(path), overrides, path)
    found = design(loaded.workload)
    # Nothing is printed before all files are written: a refusal stands alone.
    if radar is not None:
        title = loaded.workload.title or loaded.workload.name
        _write(radar, radar_svg(title[:1].upper() + title[1:], found.final.pressures), RADAR_MARK)
    if plan is not None:
        _write(plan, plan_yaml(found), PLAN_MARK)
    if as_json:
        typer.echo(json.dumps(design_values(found, loaded.defaults), indent=2, allow_nan=False))
    else:
        typer.echo(worksheet(found, loaded.defaults))
        typer.echo(_closing(path, found, radar, plan))
    return 0 if found.feasible else InfeasibleError.exit_code


def _closing(path: str, found: Design, radar: str | None, plan: str | None) -> str:
    written = [name for name in (radar, plan) if name is not None]
    if written:
        return f"\nWritten: {', '.join(written)}."
    if not found.feasible:
        return "\nNothing was written. What is asked for cannot be had; see UNMET."
    name = found.workload.name
    return f"\nNothing was written. Next: axis design {path} --plan {name}.plan.yaml"


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise PlanError([_no_file(path)], path) from None
    except UnicodeDecodeError as error:
        raise PlanError([_unreadable(path, f"is not UTF-8 text: byte {error.start}")]) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise PlanError([_unreadable(path, what)], path) from None


def _no_file(path: str) -> Problem:
    parent = Path(path).parent
    near = sorted(str(p) for p in parent.glob("*.y*ml"))[:9] if parent.is_dir() else []
    works = f"one of {', '.join(near)}" if near else ""
    return Problem("workload file", "there is no such file", works=works, file=path)


def _unreadable(path: str, what: str) -> Problem:
    return Problem("workload file", what, file=path)


def _write(name: str, text: str, mark: str) -> None:
    """Write a file that was drawn up here; one that was not is never overwritten."""
    target = Path(name)
    try:
        if target.exists() and not target.read_text(encoding="utf-8").startswith(mark):
            problem = Problem(
                name,
                "exists and was not written by axis design; it is left as it is",
                works="another name",
            )
            raise PlanError([problem], name)
        target.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{name} cannot be written: {error}") from error
