"""What was not said in a workload, and is used nevertheless?

Lists each default that some stage reads; those of no consequence here (how fast accelerators talk
where there are none) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from orchestrator.plan.quantities import format_duration
from orchestrator.planner.design.wording import count, rate, size
from orchestrator.planner.design.work import flops_per_sample
from orchestrator.planner.design.workload import Training, Workload
from orchestrator.planner.failure import GREATEST_RATE, LEAST_RATE, MEDIAN_RATE


@dataclass(frozen=True, slots=True)
class Default:
    """A value that nobody wrote down, and what it means."""

    where: str
    value: str
    meaning: str

    @property
    def section(self) -> str:
        """The section it is in; ``workload`` at the top."""
        return self.where.partition(".")[0] if "." in self.where else "workload"

    @property
    def name(self) -> str:
        """Its name within the section."""
        return self.where.partition(".")[2] or self.where


def defaults_of(workload: Workload) -> tuple[Default, ...]:
    """Every default that the design of ``workload`` reads, in the order of the schema."""
    idle = [prefix for prefix, reads in _READ_IF if not reads(workload)]
    found = [
        default
        for default in _unsaid(workload, "", said=True)
        if not any(default.where.startswith(prefix) for prefix in idle)
    ]
    order = list(dict.fromkeys([*(default.section for default in found), *_SECTIONS]))
    found += _derived(workload)
    return tuple(sorted(found, key=lambda default: order.index(default.section)))


def _derived(workload: Workload) -> Iterator[Default]:
    """What follows from something else where it is not given."""
    training, model, agents = workload.training, workload.model, workload.agents
    trains = training is not None and model is not None
    if training is not None and model is not None and not _told_time(training):
        flops = count(flops_per_sample(model, training))
        what = "forward and backward: 6 FLOP per active dense parameter"
        yield Default("training.flops_per_sample", f"6 · active = {flops}", what)
    if workload.failure.rate is None and (trains or workload.serving or agents or workload.data):
        value = f"{MEDIAN_RATE:g} ({LEAST_RATE:g} to {GREATEST_RATE:g}) per 1000 node-days"
        what = "failures per 1000 node-days: median, least and greatest of published fleets"
        yield Default("failure.rate", value, what)
    if trains and workload.failure.checkpoint is None:
        what = "time to save: the training state over the disks of one replica's machines"
        yield Default("failure.checkpoint", "state / disk_rate", what)
    if agents is not None and agents.peers is None:
        yield Default("agents.peers", f"{agents.population - 1:,}", "all others")


def _told_time(training: Training) -> bool:
    return bool(training.measured or training.flops_per_sample)


def _unsaid(part: BaseModel, path: str, said: bool) -> Iterator[Default]:
    """The fields of a section that were not written; all of them if it was not."""
    for name, info in type(part).model_fields.items():
        value: Any = getattr(part, name)
        where = f"{path}.{name}" if path else name
        written = said and name in part.model_fields_set
        if isinstance(value, BaseModel):
            yield from _unsaid(value, where, written)
        elif not written and value not in (None, "") and name != "version":
            meaning = " ".join((info.description or "").replace("``", "").split())
            yield Default(where, _spelled(name, value), meaning)


def _serves_index(workload: Workload) -> bool:
    return bool(workload.serving and workload.data and workload.data.access == "random")


_READ_IF: tuple[tuple[str, Callable[[Workload], object]], ...] = (
    ("machine.cores", lambda w: not w.machine.devices and (w.serving or w.agents)),
    ("machine.memory", lambda w: not w.machine.devices or w.data),
    ("machine.disk", lambda w: w.data or w.training),
    ("machine.disk_rate", lambda w: w.training or (w.data and w.data.process)),
    ("machine.device_link", lambda w: w.machine.devices),
    ("machine.network", lambda w: w.training or (w.data and w.data.process) or w.agents),
    ("data.horizon", lambda w: w.data and w.data.growth_per_day),
    ("data.may_leave", lambda w: w.trust.domains > 1),
    ("model.sparse_bytes_per_sample", lambda w: w.model and w.model.sparse_parameters),
    ("model.expert_bytes_per_sample", lambda w: w.model and w.model.active_parameters),
    ("model.training_bytes_per_parameter", lambda w: w.training),
    ("serving.lookup_latency", lambda w: w.serving and w.serving.lookups),
    ("serving.shards_touched", _serves_index),
    ("failure.restart", lambda w: w.training),
    ("failure.repair", lambda w: w.serving or w.agents),
    ("failure.sites", lambda w: w.serving),
    ("failure.survive", lambda w: w.serving),
)
"""Which fields are read only in some workloads, and in which."""

_SECTIONS = ("machine", "data", "model", "training", "serving", "agents", "trust", "failure")

_SIZES = {
    "memory",
    "disk",
    "growth_per_day",
    "sparse_bytes_per_sample",
    "message",
    "expert_bytes_per_sample",
}
_TIMES = {"latency", "horizon", "restart", "repair", "lookup_latency"}
_RATES = {"disk_rate", "bandwidth"}


def _spelled(name: str, value: Any) -> str:
    if name in _SIZES:
        return size(float(value))
    if name in _TIMES:
        return format_duration(float(value))
    if name in _RATES:
        return rate(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return count(float(value)) if isinstance(value, (int, float)) else str(value)
