"""Which devices are known, and what does a description of one say?

The files are data of this package, so that an installed planner finds them; ``configs/hardware``
is a link to their folder. A description of one's own is handed in as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.wording import choice, fold, nearest
from orchestrator.plan.yaml_dialect import PlanLoader
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.spec_errors import schema_problems

WHERE = "hardware.device"
"""The field that names a device."""


@cache
def known_devices() -> Mapping[str, Device]:
    """Every shipped device by its name, in the order of the names."""
    folder = files("orchestrator.planner").joinpath("hardware")
    texts = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }
    found = (parse_device(texts[name], name) for name in sorted(texts))
    return {device.name: device for device in found}


@cache
def _by_spelling() -> Mapping[str, Device]:
    spellings: dict[str, Device] = {}
    for device in known_devices().values():
        for name in (device.name, *device.aliases):
            spellings[fold(name)] = device
    return spellings


def find_device(device: str | Mapping[str, Any]) -> Device:
    """The device of that name or alias, or that is described by those values.

    Raises ``PlanError`` with the nearest names for one that is not known.
    """
    if not isinstance(device, str):
        return device_of(device, "hardware.device", WHERE)
    # A published table may add a remark: "A100-80GB-SXM (NDm A100 v4)".
    found = _by_spelling().get(fold(device.split(" (")[0]))
    if found is None:
        raise PlanError([_unknown(device)], "hardware")
    return found


def parse_device(text: str, source: str) -> Device:
    """A device from the text of a hardware file. Raises ``PlanError`` where it is none."""
    try:
        values: Any = yaml.load(text, Loader=PlanLoader)
    except yaml.YAMLError as error:
        raise PlanError([Problem(source, f"is not YAML: {error}")], source) from error
    return device_of(values, source)


def device_of(values: Any, source: str, prefix: str = "") -> Device:
    """A device from values. Raises ``PlanError`` with every field that is wrong."""
    try:
        return Device.model_validate(values)
    except ValidationError as error:
        raise PlanError(schema_problems(error, Device, values, prefix), source) from error


def _unknown(name: str) -> Problem:
    spellings = [n for d in known_devices().values() for n in (d.name, *d.aliases)]
    close = [_by_spelling()[fold(spelling)].name for spelling in nearest(name, spellings, 3)]
    works = choice(list(dict.fromkeys(close))) or "a device above, or a hardware file of yours"
    known = f"known: {', '.join(known_devices())}"
    return Problem(WHERE, f'no device is called "{name}"', known, works)
