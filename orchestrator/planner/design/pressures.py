"""Stage 2: how strongly is each axis pressed, which are distributed, and which are not?

A pressure is r / (1 + r), where r is how many machines' worth of it is needed: 0 for nothing, ½
where one machine is exactly full, towards 1 without end. Above ½ the axis is distributed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.planner.design.ceilings import AXES, Axis, Demand
from orchestrator.planner.design.sizing import Sizing, worst
from orchestrator.planner.design.training_tax import failure_rates
from orchestrator.planner.design.wording import counted, figure
from orchestrator.planner.design.workload import Workload
from orchestrator.planner.failure import interruptions

MONTH_SECONDS = 30 * 86_400.0
BY_HAND_PER_MONTH = 1.0
"""Failures a month that people can mend by hand; more of them need a machine that does it."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """One axis: its pressure, what is done about it, and why."""

    axis: Axis
    ratio: float
    pressure: float
    distribute: bool
    how: str
    """What it is split into; empty where it is not distributed."""
    why: str


def pressure_of(ratio: float) -> float:
    """r / (1 + r), in [0, 1] and rising with r."""
    return ratio / (1.0 + ratio) if ratio < 1e15 else 1.0


def pressures(
    workload: Workload, demands: tuple[Demand, ...], sizing: Sizing
) -> tuple[Pressure, ...]:
    """All six axes, in their usual order."""
    return tuple(_axis(axis, workload, demands, sizing) for axis in AXES)


def _axis(axis: Axis, workload: Workload, demands: tuple[Demand, ...], sizing: Sizing) -> Pressure:
    if axis == "coordination":
        return _coordination(workload, sizing)
    ratio = worst(demands, axis)
    leading = next((demand for demand in demands if demand.axis == axis), None)
    how = _HOW[axis](workload, sizing)
    spread = ratio > 1.0
    if leading is None:
        why = _ABSENT[axis]
    else:
        why = f"{leading.name} {figure(leading.ratio)}×"
        if not spread:
            full = f"{max(1.0, 100 * ratio):.0f} %" if ratio >= 0.01 else "under 1 %"
            why = f"{full} of one {_yardstick(leading, workload)}; {_INSTEAD[axis]}"
    return Pressure(axis, ratio, pressure_of(ratio), spread, how if spread else "", why)


def _yardstick(demand: Demand, workload: Workload) -> str:
    return workload.machine.unit if demand.ceiling == "model" else "machine"


def _coordination(workload: Workload, sizing: Sizing) -> Pressure:
    rates = failure_rates(workload)
    machines = sizing.num_machines
    monthly = interruptions(machines, rates[len(rates) // 2], MONTH_SECONDS)
    ratio = monthly / BY_HAND_PER_MONTH
    asked = workload.failure.survive != "nothing"
    spread = machines > 1 and (ratio > 1.0 or asked)
    why = f"{figure(monthly)} machine failures a month among {counted(machines, 'machine')}"
    if not spread:
        why += "; seldom enough to restart by hand" if machines > 1 else "; nothing to coordinate"
    elif ratio <= 1.0:
        why += f"; it has to survive the loss of a {workload.failure.survive}"
    how = "placing, health checks and restarts without people" if spread else ""
    return Pressure("coordination", ratio, pressure_of(ratio), spread, how, why)


def _data(workload: Workload, sizing: Sizing) -> str:
    if workload.data is not None and not workload.data.may_leave and workload.trust.domains > 1:
        return f"{workload.trust.domains} parts, each stays where it is"
    return counted(sizing.data_machines, "shard") + ", one a machine"


def _training(workload: Workload, sizing: Sizing) -> str:
    pool, unit = sizing.training, workload.machine.unit
    if pool is None:
        return ""
    if pool.replicas == 1:
        return f"the {counted(pool.split, unit)} of one replica share each batch"
    return counted(pool.replicas, "replica")


def _model(workload: Workload, sizing: Sizing) -> str:
    unit = workload.machine.unit
    parts = []
    if sizing.training and sizing.training.split > 1:
        parts.append(f"{sizing.training.split} {unit}s a replica in training")
    if sizing.serving and sizing.serving.split > 1:
        parts.append(f"{sizing.serving.split} {unit}s a replica in serving")
    if workload.model and workload.model.sparse_parameters and parts:
        return "embedding tables over " + ", ".join(parts)
    return "split over " + ", ".join(parts) if parts else ""


def _inference(workload: Workload, sizing: Sizing) -> str:
    if sizing.serving is None:
        return ""
    sites = workload.failure.sites
    spread = f", {sizing.serving.replicas // sites} in each of {sites} sites" if sites > 1 else ""
    return counted(sizing.serving.replicas, "replica") + spread


def _intelligence(workload: Workload, _: Sizing) -> str:
    return counted(workload.agents.population, "agent") if workload.agents else ""


_HOW: dict[Axis, Callable[[Workload, Sizing], str]] = {
    "data": _data,
    "training": _training,
    "model": _model,
    "inference": _inference,
    "intelligence": _intelligence,
}
_INSTEAD: dict[Axis, str] = {
    "data": "sharding would add a shuffle and relieve nothing",
    "training": "more workers would add an all-reduce and no deadline asks for them",
    "model": "a whole copy fits; cutting it would add exchanges to every pass",
    "inference": "more replicas would stand idle",
    "intelligence": "one process decides for all of them in time",
}
_ABSENT: dict[Axis, str] = {
    "data": "no data set of its own",
    "training": "nothing is trained",
    "model": "no model to split",
    "inference": "nothing is served",
    "intelligence": "no agents that decide for themselves",
}
