"""Which machine is predicted for? A hardware file, a known device, or the file of this folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import PlanError, Problem
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.hardware_files import find_device, parse_device

DEFAULT_FILE = "hardware.yaml"
"""What ``axis calibrate`` writes, and what is taken where nothing is said."""

VARIABLE = "AXIS_HARDWARE"


@dataclass(frozen=True)
class Hardware:
    """A device and where it was found; or none, and what is wrong with the file of the folder."""

    device: Device | None
    source: str
    problem: str = ""


def choose_hardware(named: str | None) -> Hardware:
    """The file or device that is named, else that of ``AXIS_HARDWARE``, else ``hardware.yaml``.

    Raises ``PlanError`` for a name that leads nowhere or a file that is wrong. Where nothing is
    named that is no error: there is no device, or no sound file of that name, and nothing is
    predicted for it.
    """
    chosen = named or os.environ.get(VARIABLE) or ""
    if not chosen:
        return _of_this_folder()
    if not chosen.endswith((".yaml", ".yml")):
        return Hardware(find_device(chosen), chosen)
    return Hardware(parse_device(_read(chosen), chosen), chosen)


def _of_this_folder() -> Hardware:
    if not Path(DEFAULT_FILE).is_file():
        return Hardware(None, "")
    try:
        return Hardware(parse_device(_read(DEFAULT_FILE), DEFAULT_FILE), DEFAULT_FILE)
    except PlanError as error:
        said = "; ".join(problem.sentence() for problem in error.problems[:3])
        return Hardware(None, DEFAULT_FILE, f"{DEFAULT_FILE} is no hardware file: {said}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        works = "axis calibrate writes one"
        raise PlanError(
            [Problem("--hardware", f"cannot be read: {reason}", works=works)], path
        ) from error
