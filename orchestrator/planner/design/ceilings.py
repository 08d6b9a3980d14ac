"""Stage 1: which resource of one machine runs out?

Every demand of the workload is set against what one machine (for memory: one accelerator) can
give. A ratio above 1 is a ceiling; the highest binds. It does not know how many machines there
are to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.planner.design.machine import FILL
from orchestrator.planner.design.serving import answer_seconds, machine_rate, token_seconds
from orchestrator.planner.design.wording import count, figure, rate, seconds, size
from orchestrator.planner.design.work import (
    planned_bytes,
    serving_bytes,
    training_bytes,
    training_seconds,
)
from orchestrator.planner.design.workload import Workload

Ceiling = Literal["data", "model", "throughput", "agents"]
Axis = Literal["data", "training", "model", "inference", "coordination", "intelligence"]
AXES: tuple[Axis, ...] = (
    "data", "training", "model", "inference", "coordination", "intelligence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand against the supply of one machine, in the same unit."""

    ceiling: Ceiling
    axis: Axis
    name: str
    demand: float
    supply: float
    arithmetic: str

    @property
    def ratio(self) -> float:
        """Machines' worth of it that is needed; above 1 it is a ceiling."""
        return self.demand / self.supply

    @property
    def binds(self) -> bool:
        """Whether one machine is not enough."""
        return self.ratio > 1.0


def demands(workload: Workload) -> tuple[Demand, ...]:
    """Everything that is asked for, the most pressing first."""
    found = [
        *_data(workload),
        *_model(workload),
        *_training(workload),
        *_serving(workload),
        *_agents(workload),
    ]
    return tuple(sorted(found, key=lambda demand: -demand.ratio))


def _data(workload: Workload) -> Iterator[Demand]:
    data, machine = workload.data, workload.machine
    if data is None:
        return
    total = planned_bytes(data)
    grown = f"{size(data.size)} + {size(data.growth_per_day)}/d · {seconds(data.horizon)} = "
    told = f"{grown if data.growth_per_day else ''}{size(total)}"
    yield Demand(
        "data", "data", "disk", total, FILL * machine.disk,
        f"{told} / ({FILL:g} · {size(machine.disk)})",
    )  # fmt: skip
    if data.access == "random":
        yield Demand(
            "data", "data", "memory", total, FILL * machine.memory,
            f"{told} looked up / ({FILL:g} · {size(machine.memory)})",
        )  # fmt: skip
    if data.process is not None:
        process = data.process
        rate_bytes = min(process.rate, machine.disk_rate)
        yield Demand(
            "data", "data", "processing", process.passes * total / rate_bytes, process.window,
            f"{figure(process.passes)} · {size(total)} / {rate(rate_bytes)} = "
            f"{seconds(process.passes * total / rate_bytes)} / {seconds(process.window)}",
        )  # fmt: skip
    if not data.may_leave and workload.trust.domains > 1:
        domains = workload.trust.domains
        yield Demand(
            "data", "data", "trust", domains, 1.0,
            f"{domains} parties, and one machine may hold the records of one",
        )  # fmt: skip


def _model(workload: Workload) -> Iterator[Demand]:
    model, machine = workload.model, workload.machine
    if model is None:
        return
    memory = f"({FILL:g} · {size(machine.unit_memory_whole)})"
    if workload.training is not None:
        state = training_bytes(model)
        yield Demand(
            "model", "model", "training state", state, machine.unit_memory,
            f"{count(model.parameters)} · {figure(model.training_bytes_per_parameter)} B = "
            f"{size(state)} / {memory} of one {machine.unit}",
        )  # fmt: skip
    if workload.serving is not None or workload.agents is not None:
        held = serving_bytes(model)
        yield Demand(
            "model", "model", "served weights", held, machine.unit_memory,
            f"{count(model.parameters)} · {figure(model.bytes_per_parameter)} B = {size(held)} / "
            f"{memory} of one {machine.unit}",
        )  # fmt: skip


def _training(workload: Workload) -> Iterator[Demand]:
    training = workload.training
    if training is None or workload.model is None:
        return
    alone = training_seconds(workload)
    yield Demand(
        "throughput", "training", "training time", alone, training.deadline,
        f"{seconds(alone)} on one machine / {seconds(training.deadline)}",
    )  # fmt: skip
    if workload.data and not workload.data.may_leave and workload.trust.domains > 1:
        domains = workload.trust.domains
        yield Demand(
            "data", "training", "local training", domains, 1.0,
            f"{domains} parties, each trains on its own",
        )  # fmt: skip


def _serving(workload: Workload) -> Iterator[Demand]:
    serving, machine = workload.serving, workload.machine
    if serving is None:
        return
    one = machine_rate(workload)
    if one is not None:
        capacity = serving.utilization * one.per_second
        yield Demand(
            "throughput", "inference", "requests", serving.requests_per_second, capacity,
            f"{count(serving.requests_per_second)}/s / ({serving.utilization:g} · "
            f"{count(one.per_second)}/s = {figure(capacity)}/s); {one.arithmetic}",
        )  # fmt: skip
    if serving.tokens is not None and workload.model is not None:
        alone = token_seconds(workload, 1, 1)
        yield Demand(
            "model", "model", "time per token", alone, serving.tokens.each,
            f"{size(serving_bytes(workload.model, active=True))} read for each token on one "
            f"{machine.unit} = {seconds(alone)} / {seconds(serving.tokens.each)}",
        )  # fmt: skip
    answer = answer_seconds(workload)
    if answer is not None and serving.latency is not None:
        yield Demand(
            "throughput", "inference", "answer time", answer, serving.latency,
            f"computing takes {seconds(answer)} of {seconds(serving.latency)}",
        )  # fmt: skip


def _agents(workload: Workload) -> Iterator[Demand]:
    agents, machine = workload.agents, workload.machine
    if agents is None:
        return
    busy = agents.population * agents.decisions_per_second * agents.compute
    yield Demand(
        "agents", "intelligence", "decisions", busy, float(machine.lanes),
        f"{agents.population:,} · {figure(agents.decisions_per_second)}/s · "
        f"{seconds(agents.compute)} = {figure(busy)} busy / {machine.lanes}",
    )  # fmt: skip
    if agents.alone:
        yield Demand(
            "agents", "intelligence", "deciding alone", float(agents.population), 1.0,
            f"{agents.population:,} have to act while cut off; one machine reaches none of them",
        )  # fmt: skip
