"""Which way of distributing a model over a cluster is best, and what does it beat?

Best-first: every candidate has a lower bound of its time and of its memory that costs a few
multiplications; candidates are estimated in full in the order of the first, those whose second
does not fit never. What is left out is counted with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from orchestrator.errors import InfeasibleError, PlanError, Problem
from orchestrator.planner.cost.activations import kept_layer_bytes
from orchestrator.planner.cost.candidates import Layers, Space, Split
from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.memory import Memory, capacity_bytes, memory
from orchestrator.planner.cost.money import money
from orchestrator.planner.cost.parameters import Stage, stage_parameters
from orchestrator.planner.cost.pareto import pareto_front
from orchestrator.planner.cost.refusals import Refused, Tally, nothing_fits
from orchestrator.planner.cost.resolve import Resolved, resolve
from orchestrator.planner.cost.spec import MeshSpec, Spec
from orchestrator.planner.cost.states import stage_states
from orchestrator.planner.cost.step import LayerCost, StepTime, layer_cost, step_time

Metric = Literal["throughput", "cost", "memory"]
"""What to rank by: seconds per token, money per token, or bytes of the busiest device."""

MOST_ESTIMATES = 4000
"""Candidates that are estimated in full for each number of devices; more only while one of
them could still be the best."""

SLACK = 1.5
"""Candidates whose lower bound is this many times the best time are not estimated."""


@dataclass(frozen=True, slots=True)
class Found:
    """One candidate that fits."""

    case: Case
    time: StepTime
    memory: Memory
    cost_per_million_tokens: float | None

    @property
    def seconds_per_token(self) -> float:
        """Seconds of the whole cluster for one token."""
        work = self.case.work
        return self.time.total / (work.global_batch * work.seq_len)

    @property
    def device_seconds_per_token(self) -> float:
        """Devices times seconds for one token: what is paid for."""
        return self.seconds_per_token * self.case.degrees.size


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Candidates that fit, best first, and what became of the rest.

    ``pareto`` holds those that no other beats in time, cost and memory at once.
    """

    metric: Metric
    ranked: tuple[Found, ...]
    pareto: tuple[Found, ...]
    refused: tuple[Refused, ...]
    considered: int
    estimated: int
    defaults: Mapping[str, Any]


class _Candidate(NamedTuple):
    bound: float
    space: Space
    key: Layers
    split: Split
    cost: LayerCost

    def case(self) -> Case:
        return _case(self.space, self.key, self.split)


def search(
    spec: Spec,
    metric: Metric = "throughput",
    device_counts: Sequence[int] = (),
    source: str = "specification",
) -> SearchResult:
    """Rank every way to carry out what ``spec`` leaves open.

    Mesh degrees, micro-batch, recomputation, sharding and virtual stages that ``spec`` states
    are kept; the others are searched. ``device_counts`` tries other numbers of devices than
    ``hardware.devices``. Raises ``PlanError`` for what contradicts itself and
    ``InfeasibleError`` with the reasons where nothing fits.
    """
    resolved = _resolved(spec, source)
    counts = tuple(device_counts) or (resolved.case.cluster.devices,)
    found: list[Found] = []
    tally = Tally()
    considered = estimated = 0
    for devices in counts:
        cluster = replace(resolved.case.cluster, devices=devices)
        space = Space(resolved.case.shape, resolved.case.work, cluster, spec.mesh, spec.training)
        candidates, seen = _bounded(space, tally)
        considered += seen
        estimated += _estimate(candidates, resolved.price_per_device_hour, found, tally)
    refused = tally.refused()
    if not found:
        raise InfeasibleError(nothing_fits(resolved.case, counts, refused))
    ranked = tuple(sorted(found, key=ranking(metric)))
    front = pareto_front(found, _objectives)
    defaults = _not_searched(resolved.defaults)
    return SearchResult(metric, ranked, front, refused, considered, estimated, defaults)


def ranking(metric: Metric) -> Callable[[Found], tuple[float, float]]:
    """What to sort candidates by, smallest first; ties go to the faster or the smaller."""
    if metric == "memory":
        return lambda one: (one.memory.peak, one.seconds_per_token)
    if metric == "cost":
        return lambda one: (one.device_seconds_per_token, one.seconds_per_token)
    return lambda one: (one.seconds_per_token, one.memory.peak)


def _objectives(one: Found) -> tuple[float, float, float]:
    return one.seconds_per_token, one.device_seconds_per_token, one.memory.peak


def _resolved(spec: Spec, source: str) -> Resolved:
    """Everything but what is searched, resolved as if for one device."""
    devices = spec.hardware.devices
    if devices is None:
        what = "is missing: a search needs the number of devices to distribute over"
        raise PlanError([Problem("hardware.devices", what)], source)
    free = {"micro_batch": 1, "sharding": None, "schedule": None, "virtual_stages": None}
    alone = {
        "mesh": MeshSpec(dp=1),
        "training": spec.training.model_copy(update=free),
        "hardware": spec.hardware.model_copy(update={"devices": 1}),
    }
    resolved = resolve(spec.model_copy(update=alone), source)
    cluster = replace(resolved.case.cluster, devices=devices)
    return replace(resolved, case=replace(resolved.case, cluster=cluster))


_SEARCHED = (
    "mesh.",
    "hardware.devices",
    "training.micro_batch",
    "training.recompute",
    "training.sharding",
    "training.virtual_stages",
    "training.schedule",
    "training.sequence_parallel",
)


def _not_searched(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if not name.startswith(_SEARCHED)}


def _bounded(space: Space, tally: Tally) -> tuple[list[_Candidate], int]:
    """Candidates whose states and activations alone fit, each with a lower bound of its time."""
    costs: dict[Layers, tuple[LayerCost, float]] = {}
    states: dict[tuple[object, ...], float] = {}
    capacity = capacity_bytes(space.cluster.device)
    too_large = f"states and activations exceed {space.cluster.device.name}"
    kept: list[_Candidate] = []
    seen = 0
    for key, split in space.splits():
        seen += 1
        if key not in costs:
            costs[key] = _layer_costs(space, key)
        cost, activation = costs[key]
        layers = max(1, space.shape.layers // split.pp)
        mark = (key.tp, key.ep, key.cp, split.pp, split.dp, split.fsdp, split.sharding)
        if mark not in states:
            case = _case(space, key, split)
            held = stage_parameters(case, Stage(layers, False, False))
            states[mark] = stage_states(case, held).total
        micro_batches = space.work.global_batch // (split.dp * split.fsdp * key.micro_batch)
        flying = _least_in_flight(space, split, micro_batches)
        candidate = _Candidate(0.0, space, key, split, cost)
        if states[mark] + layers * activation * flying > capacity:
            tally.add(too_large, candidate.case)
            continue
        idle = (split.pp - 1) / split.virtual
        kept.append(candidate._replace(bound=layers * cost.busy * (micro_batches + idle)))
    return kept, seen


def _case(space: Space, key: Layers, split: Split) -> Case:
    return Case(space.shape, space.case_work(key, split), space.degrees(key, split), space.cluster)


def _layer_costs(space: Space, key: Layers) -> tuple[LayerCost, float]:
    """What a layer costs all candidates with these layers, and the bytes that it keeps."""
    batch = space.cluster.devices // (key.tp * key.cp)
    case = _case(space, key, Split(1, 1, batch, 1, "none"))
    return layer_cost(case), kept_layer_bytes(case)


def _least_in_flight(space: Space, split: Split, micro_batches: int) -> float:
    """A lower bound of ``activations.in_flight`` that needs no case."""
    if space.training.schedule == "gpipe":
        return float(micro_batches)
    return float(min(micro_batches, split.pp))


def _estimate(
    candidates: list[_Candidate], price: float | None, found: list[Found], tally: Tally
) -> int:
    """Estimate in full, the most promising first, until bounds say that the rest is worse."""
    candidates.sort(key=lambda candidate: candidate.bound)
    best = float("inf")
    for index, candidate in enumerate(candidates):
        # Beyond the best time no bound can hide a better one: only then may the number decide.
        if candidate.bound > (best if index >= MOST_ESTIMATES else SLACK * best):
            _leave(candidates[index:], best, tally)
            return index
        case = candidate.case()
        needed = memory(case)
        if needed.peak > capacity_bytes(case.cluster.device):
            tally.add(f"out of memory on {case.cluster.device.name}", candidate.case)
            continue
        # Layers with an expert dimension depend on where its ranks lie: computed anew.
        time = step_time(case, None if case.degrees.ep > 1 else candidate.cost)
        best = min(best, time.total)
        paid = money(case, time.total, price, None).per_million_tokens
        found.append(Found(case, time, needed, paid))
    return len(candidates)


def _leave(rest: Sequence[_Candidate], best: float, tally: Tally) -> None:
    for candidate in rest:
        slower = candidate.bound > SLACK * best
        reason = f"at least {SLACK:g} times slower than the best" if slower else "not estimated"
        tally.add(reason, candidate.case)
