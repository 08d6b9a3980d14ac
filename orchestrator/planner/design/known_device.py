"""What does a machine with a known accelerator offer? Filled in from its hardware file.

So that a workload and ``axis estimate`` mean the same device by the same name. What is written
in the workload stays; what a run sustains is not in a data sheet, and stays to be said.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.wording import choice
from orchestrator.planner.cost.device import Device, LinkFile
from orchestrator.planner.cost.hardware_files import find_device, known_devices
from orchestrator.planner.design.defaults import Default
from orchestrator.planner.design.wording import rate, size

WHERE = "machine.device"


def fill_machine(root: dict[str, Any]) -> list[Default]:
    """Fill the fields of ``machine`` that a known ``machine.device`` answers; what was filled.

    Raises ``PlanError`` for a device that is not known, or that is no accelerator.
    """
    machine = root.get("machine")
    name = machine.get("device") if isinstance(machine, dict) else None
    if not isinstance(machine, dict) or not isinstance(name, str):
        return []
    device = _found(name)
    filled = []
    for field, (value, shown) in _answers(device).items():
        if field not in machine:
            machine[field] = value
            filled.append(Default(f"machine.{field}", shown, f"of {device.name}"))
    return filled


def _found(name: str) -> Device:
    try:
        device = find_device(name)
    except PlanError as error:
        problems = [Problem(WHERE, p.what, p.arithmetic, p.works) for p in error.problems]
        raise PlanError(problems, WHERE) from None
    if device.kind != "gpu":
        gpus = [each.name for each in known_devices().values() if each.kind == "gpu"]
        what = f"{device.name} is a processor, not an accelerator"
        works = f"machine.cores and machine.memory instead, or {choice(gpus[:2])}"
        raise PlanError([Problem(WHERE, what, works=works)], WHERE)
    return device


def _answers(device: Device) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {
        "devices": (device.per_node, f"{device.per_node}"),
        "device_memory": (device.memory_bytes, size(float(device.memory_bytes))),
        "device_bandwidth": (device.memory_bandwidth, rate(device.memory_bandwidth)),
        "device_link": _link(device.intra),
        "network": _link(device.inter),
    }
    if device.price_per_hour is not None:
        price = device.price_per_hour * device.per_node
        found["price_per_hour"] = (price, f"{price:g}")
    return found


def _link(link: LinkFile) -> tuple[dict[str, Any], str]:
    """A link, and how it is told: what large exchanges reach of its rate."""
    reached = link.bandwidth * link.efficiency
    latency = f"{link.latency * 1e6:g}us"
    return {"bandwidth": reached, "latency": latency}, f"{rate(reached)}, {latency}"
