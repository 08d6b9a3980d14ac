"""``axis calibrate --from-runs``: what do past runs say of the predictions? Before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from orchestrator.cli.calibrate_command import write_hardware
from orchestrator.errors import InfeasibleError, PlanError, Problem
from orchestrator.planner.calibration.hardware_file import MARK, with_refit
from orchestrator.planner.calibration.refit import (
    Pair,
    Refitted,
    corrected,
    mean_error,
    refit,
)
from orchestrator.planner.cost.device import Refit
from orchestrator.planner.cost.estimate_text import seconds
from orchestrator.planner.cost.hardware_files import parse_device


def refit_from_runs(hardware: str, storage: str, as_json: bool) -> None:
    """Refit the factors of a hardware file, show before and after, and write them into it.

    Raises ``PlanError`` where there is no such file, ``InfeasibleError`` where no run can be used.
    """
    text = _text(hardware)
    device = parse_device(text, hardware)
    from orchestrator.runtime.past_runs import past_pairs
    from orchestrator.storage import Storage

    pairs, left_out = past_pairs(Storage.open(storage, Path.cwd()), device)
    try:
        found = refit(pairs)
    except ValueError:
        raise InfeasibleError(_nothing(storage, device.name, left_out)) from None
    left_out += found.left_out
    write_hardware(hardware, with_refit(text, found.refit))
    if as_json:
        typer.echo(json.dumps(_view(hardware, device.refit, found, left_out), indent=2))
        return
    typer.echo(_told(hardware, device.refit, found, left_out))


def _text(hardware: str) -> str:
    try:
        text = Path(hardware).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem("--output", f"cannot be read: {reason}", works="axis calibrate first")
        raise PlanError([problem], hardware) from error
    if not text.startswith(MARK):
        what = "was not written by axis calibrate; it is left as it is"
        raise PlanError([Problem("--output", what, works="a file that was")], hardware)
    return text


def _nothing(storage: str, name: str, left_out: list[tuple[str, str]]) -> str:
    lines = [f"no run in {storage} says how good predictions for {name} are"]
    lines += [f"  {run}: {reason}" for run, reason in left_out[:10]]
    lines.append("  works: axis run PLAN, with the hardware file in its folder, then this again")
    return "\n".join(lines)


def _told(hardware: str, before: Refit, found: Refitted, left_out: list[tuple[str, str]]) -> str:
    after = found.refit
    lines = [
        f"{len(found.used)} runs, {hardware}",
        "",
        f"  {'factor':<28}{'before':>12}{'after':>12}",
        f"  {'computing':<28}{before.computation:>12.3f}{after.computation:>12.3f}",
        f"  {'communication':<28}{before.communication:>12.3f}{after.communication:>12.3f}",
        "",
        f"  {'step of':<28}{'measured':>12}{'before':>12}{'error':>9}{'after':>12}{'error':>9}",
    ]
    lines += [_row(pair, before, after) for pair in found.used]
    errors = mean_error(found.used, before), mean_error(found.used, after)
    lines.append(f"  {'mean error':<40}{'':>12}{errors[0]:>9.1%}{'':>12}{errors[1]:>9.1%}")
    lines += [f"  left out: {name}: {reason}" for name, reason in left_out]
    return "\n".join([*lines, "", f"Written: {hardware}."])


def _row(pair: Pair, before: Refit, after: Refit) -> str:
    measured = pair.measured.step
    cells = f"  {pair.name[:27]:<28}{seconds(measured):>12}"
    for factors in (before, after):
        step = corrected(pair, factors).step
        cells += f"{seconds(step):>12}{step / measured - 1:>+9.1%}"
    return cells


def _view(
    hardware: str, before: Refit, found: Refitted, left_out: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "kind": "refit",
        "file": hardware,
        "before": before.model_dump(),
        "after": found.refit.model_dump(),
        "mean_step_error": {
            "before": mean_error(found.used, before),
            "after": mean_error(found.used, found.refit),
        },
        "runs": [
            {
                "name": pair.name,
                "measured_step_seconds": pair.measured.step,
                "before_seconds": corrected(pair, before).step,
                "after_seconds": corrected(pair, found.refit).step,
            }
            for pair in found.used
        ],
        "left_out": [{"name": name, "reason": reason} for name, reason in left_out],
    }
