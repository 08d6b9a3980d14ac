"""``axis estimate``: what would one configuration cost? Answered by arithmetic alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
import yaml

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.yaml_dialect import PlanLoader
from orchestrator.planner.cost.compare import compare
from orchestrator.planner.cost.estimate import estimate_all, estimate_view
from orchestrator.planner.cost.estimate_text import comparison_text, estimate_text


def show_estimate(path: str, as_json: bool) -> None:
    """Read one specification or a list, estimate and print.

    Two specifications are also compared. Raises ``PlanError`` with everything that is wrong.
    """
    values = read_values(path)
    found = estimate_all(values, path)
    if as_json:
        views = [estimate_view(one) for one in found]
        typer.echo(json.dumps(views if isinstance(values, list) else views[0], indent=2))
        return
    typer.echo("\n\n".join(estimate_text(one) for one in found))
    if len(found) == 2:
        typer.echo("\n" + comparison_text(compare(found[0], found[1])))


def read_values(path: str) -> Any:
    """What a YAML or JSON file holds; a device named by a file is replaced by its values.

    ``-`` is the standard input. Raises ``PlanError`` where something cannot be read.
    """
    text = typer.get_text_stream("stdin").read() if path == "-" else _read(Path(path), path)
    values = _parse(text, path)
    folder = Path.cwd() if path == "-" else Path(path).parent
    for spec in values if isinstance(values, list) else [values]:
        _read_device(spec, folder)
    return values


def _read_device(spec: Any, folder: Path) -> None:
    hardware = spec.get("hardware") if isinstance(spec, dict) else None
    device = hardware.get("device") if isinstance(hardware, dict) else None
    if (
        isinstance(hardware, dict)
        and isinstance(device, str)
        and device.endswith((".yaml", ".yml"))
    ):
        hardware["device"] = _parse(_read(folder / device, "hardware.device"), device)


def _read(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError([Problem(where, f"cannot be read: {reason}")], str(path)) from error


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=PlanLoader)
    except yaml.YAMLError as error:
        raise PlanError([Problem(source, f"is neither YAML nor JSON: {error}")], source) from error
