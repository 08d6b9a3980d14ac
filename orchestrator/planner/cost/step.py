"""How long does one optimizer step take, and where does the time go?

Adds up computation, communication that shows, the bubble of the pipeline and the optimizer.
All seconds are of the rank that decides the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.cost import constants as c
from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.groups import Groups, mesh_groups
from orchestrator.planner.cost.parameters import (
    Stage,
    StageParameters,
    stage_parameters,
    stages,
)
from orchestrator.planner.cost.passes import Passes, layer_passes, output_passes
from orchestrator.planner.cost.spread import straggling_seconds
from orchestrator.planner.cost.traffic import (
    Exchange,
    context_exchange,
    expert_exchange,
    gather_exchange,
    gradient_exchange,
    pipeline_exchange,
    tensor_exchange,
)

DIMENSIONS = ("dp", "fsdp", "tp", "pp", "cp", "ep")


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step by cause; ``total`` is their sum.

    ``products``, ``attention`` and ``streaming`` are computation by operator class, ``host``
    what launches add where the device waits for them, ``bubble`` what stages wait for one
    another, ``straggling`` what all wait for the slowest rank, where equal work does not take all
    equally long, ``data`` what the feed adds. ``ideal`` is what the slowest stage is busy.
    """

    products: float
    attention: float
    streaming: float
    host: float
    bubble: float
    straggling: float
    optimizer: float
    data: float
    communication: dict[str, Exchange]
    ideal: float

    @property
    def exposed(self) -> float:
        """Communication that lengthens the step."""
        return sum(exchange.exposed for exchange in self.communication.values())

    @property
    def compute(self) -> float:
        """Computation of the slowest rank, launches included."""
        return self.products + self.attention + self.streaming + self.host

    @property
    def total(self) -> float:
        """Seconds of the step."""
        waits = self.bubble + self.straggling
        return self.compute + waits + self.optimizer + self.data + self.exposed

    @property
    def bubble_fraction(self) -> float:
        """Waiting as a share of what the rank computes: (p − 1)/(v·m) for equal stages."""
        return self.bubble / self.ideal if self.ideal else 0.0


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one micro-batch costs in one layer and in the output, sharding apart.

    Depends on micro-batch, recomputation, tp, cp and ep alone, not on pipeline, data ranks or
    sharding: a search computes it once for many cases.
    """

    layer: Passes
    output: Passes
    communication: dict[str, Exchange]

    @property
    def shown(self) -> float:
        """Seconds of one layer's communication among its kernels."""
        return sum(part.exposed for part in self.communication.values())

    @property
    def busy(self) -> float:
        """Seconds of one layer, its exposed communication included."""
        return self.layer.busy(self.shown)


def layer_cost(case: Case, groups: Groups | None = None) -> LayerCost:
    """The part of ``case`` that its layers have in common."""
    groups = groups or mesh_groups(case)
    layer = layer_passes(case)
    communication = {
        "tp": tensor_exchange(case, groups),
        "cp": context_exchange(case, groups, layer),
        "ep": expert_exchange(case, groups),
    }
    return LayerCost(layer, output_passes(case), communication)


@dataclass(frozen=True, slots=True)
class _Busy:
    """One micro-batch of one stage: seconds that it is busy, communication included."""

    stage: Stage
    occupied: float


def step_time(case: Case, cost: LayerCost | None = None) -> StepTime:
    """The step of ``case``; ``cost`` where it is known already."""
    groups = mesh_groups(case)
    cost = cost or layer_cost(case, groups)
    one = stage_parameters(case, Stage(1, False, False))
    gather = gather_exchange(case, groups, one.total, cost.layer)
    busy = [_busy(stage, cost, gather) for stage in stages(case)]
    slowest = max(busy, key=lambda part: part.occupied)
    count, layers = case.micro_batches, slowest.stage.layers
    send = pipeline_exchange(case, groups)
    held = max((stage_parameters(case, part.stage) for part in busy), key=lambda h: h.total)
    dp, fsdp = gradient_exchange(case, groups, held, _backward(slowest.stage, cost))
    communication = {"dp": dp, "fsdp": gather.times(layers * count).plus(fsdp)}
    for name, exchange in cost.communication.items():
        communication[name] = exchange.times(layers * count)
    communication["pp"] = send.times(count)
    parts = _by_class(slowest.stage, cost, count)
    shown = count * layers * (cost.shown + gather.exposed)
    host = _rest(count * slowest.occupied, sum(parts) + shown)
    optimizer = _optimizer_seconds(case, held)
    computing, spread = sum(parts) + host + optimizer, case.cluster.device.spread
    return StepTime(
        *parts,
        host=host,
        bubble=_bubble(case, busy, slowest, send),
        straggling=straggling_seconds(computing, spread, case.degrees.size),
        optimizer=optimizer,
        data=_data_seconds(case),
        communication={name: communication[name] for name in DIMENSIONS},
        ideal=count * slowest.occupied,
    )


def _busy(stage: Stage, cost: LayerCost, gather: Exchange) -> _Busy:
    output = cost.output.busy() if stage.output else 0.0
    return _Busy(stage, stage.layers * (cost.busy + gather.exposed) + output)


def _backward(stage: Stage, cost: LayerCost) -> float:
    """Seconds of a stage's backward pass for one micro-batch, recomputation included."""
    layers = stage.layers * cost.layer.backward_seconds
    return layers + (cost.output.backward if stage.output else 0.0)


def _by_class(stage: Stage, cost: LayerCost, count: int) -> tuple[float, float, float]:
    """Device seconds of a step in products, attention and streaming."""
    layer, output, layers = cost.layer, cost.output, stage.layers
    ends = 1 if stage.output else 0
    return (
        count * (layers * layer.products + ends * output.products),
        count * (layers * layer.attention + ends * output.attention),
        count * (layers * layer.streaming + ends * output.streaming),
    )


def _rest(whole: float, parts: float) -> float:
    """``whole`` less its ``parts``, without what rounding leaves."""
    return whole - parts if whole - parts > 1e-9 * whole else 0.0


def _bubble(case: Case, busy: list[_Busy], slowest: _Busy, send: Exchange) -> float:
    """Seconds that the slowest stage waits: every other stage once, shared by the chunks.

    Narayanan et al. 2021 (arXiv 2104.04473), section 2.2: (p − 1)·t for GPipe and 1F1B,
    (p − 1)·t/v interleaved.
    """
    pp = case.degrees.pp
    if pp == 1:
        return 0.0
    between = busy[1].occupied * (pp - 2) if len(busy) == 3 else 0.0
    others = busy[0].occupied + between + busy[-1].occupied - slowest.occupied
    return (others + (pp - 1) * send.total) / case.work.virtual_stages


def _optimizer_seconds(case: Case, held: StageParameters) -> float:
    """Streaming over the states that this rank updates, and the host's work for a step."""
    work, device = case.work, case.cluster.device
    own = held.total / (case.degrees.shard_group if work.sharding != "none" else 1)
    size = own * c.OPTIMIZER_PASS_BYTES[work.optimizer]
    host = c.HOST_STEP_SECONDS * (1.0 if device.kind == "gpu" else 0.1)
    return (size / device.streaming_rate + host) * device.refit.computation


def _data_seconds(case: Case) -> float:
    """Token ids to the device, four bytes each, over the node's link; read ahead, they show
    only where the feed does not overlap."""
    work = case.work
    if work.overlap:
        return 0.0
    tokens = work.global_batch * work.seq_len / case.degrees.batch
    return 4.0 * tokens / case.cluster.inter.bandwidth
