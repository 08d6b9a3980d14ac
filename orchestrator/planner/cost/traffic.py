"""How long does each mesh dimension communicate, and how much of it shows?

``Exchange`` holds the seconds of one micro-batch of one layer, or of one step; ``step`` counts
them. A hidden transfer shows for the share ``CONTENTION``: it takes processors and bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.cost import constants as c
from orchestrator.planner.cost.case import BYTES_PER_ELEMENT, Case
from orchestrator.planner.cost.groups import Group, Groups
from orchestrator.planner.cost.parameters import StageParameters
from orchestrator.planner.cost.passes import Passes
from orchestrator.planner.cost.states import gradient_element_bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """Seconds of communication, and those of them that lengthen the step."""

    total: float
    exposed: float

    def times(self, count: float) -> Exchange:
        """The same, ``count`` times over."""
        return Exchange(self.total * count, self.exposed * count)

    def plus(self, other: Exchange) -> Exchange:
        """Both, one after the other."""
        return Exchange(self.total + other.total, self.exposed + other.exposed)


NOTHING = Exchange(0.0, 0.0)


def behind(seconds: float, cover: float) -> Exchange:
    """A transfer of ``seconds`` behind ``cover`` seconds of computation."""
    hidden = min(seconds, cover)
    return Exchange(seconds, seconds - hidden + c.CONTENTION * hidden)


def tensor_exchange(case: Case, groups: Groups) -> Exchange:
    """One layer, one micro-batch: two all-reduces of [tokens, hidden] in each pass.

    Shoeybi et al. 2019 (Megatron-LM). With sequence parallelism each is an all-gather and a
    reduce-scatter of the same bytes (Korthikanti et al. 2022), and partly hidden.
    """
    if case.degrees.tp == 1:
        return NOTHING
    size = float(case.rank_tokens * case.shape.hidden * BYTES_PER_ELEMENT[case.work.precision])
    passes = 3 if case.work.recompute == "full" else 2
    if not case.work.sequence_parallel:
        once = 2 * passes * groups.tp.all_reduce(size)
        return Exchange(once, once)
    once = 4 * passes * groups.tp.all_gather(size)
    shown = 1 - c.TENSOR_OVERLAP if case.work.overlap else 1.0
    return Exchange(once, once * shown)


def context_exchange(case: Case, groups: Groups, layer: Passes) -> Exchange:
    """One layer, one micro-batch: keys and values go round the ring of cp ranks.

    Liu et al. 2023 (ring attention): cp − 1 steps forward, and twice the bytes backward, for
    keys and values and their gradients; hidden behind the attention of the part that is there.
    """
    cp = case.degrees.cp
    if cp == 1:
        return NOTHING
    width = 2 * case.shape.kv_width / case.degrees.tp
    size = case.rank_tokens * width * BYTES_PER_ELEMENT[case.work.precision]
    passes = 4 if case.work.recompute == "full" else 3
    seconds = passes * (cp - 1) * groups.cp.send(size)
    cover = layer.attention * (cp - 1) / cp if case.work.overlap else 0.0
    return behind(seconds, cover)


def expert_exchange(case: Case, groups: Groups) -> Exchange:
    """One layer, one micro-batch: tokens go to their experts and back in each pass.

    Lepikhin et al. 2020 (GShard): two all-to-alls forward, two backward, two more when the
    forward pass is computed again. Nothing is hidden.
    """
    if case.degrees.ep == 1:
        return NOTHING
    size = case.rank_tokens * case.shape.topk * case.shape.hidden / case.degrees.tp
    size *= BYTES_PER_ELEMENT[case.work.precision]
    passes = 3 if case.work.recompute == "full" else 2
    once = 2 * passes * groups.ep.all_to_all(size)
    return Exchange(once, once)


def gather_exchange(case: Case, groups: Groups, parameters: float, layer: Passes) -> Exchange:
    """One layer, one micro-batch under full sharding (ZeRO-3): gathered forward and backward,
    gradients scattered; each hidden behind the computation of a neighbouring layer."""
    if case.work.sharding != "full":
        return NOTHING
    weights = parameters * (4 if case.work.precision == "fp32" else 2)
    gather = groups.states.all_gather(weights)
    scatter = groups.states.all_gather(parameters * gradient_element_bytes(case.work.precision))
    if not case.work.overlap:
        return Exchange(2 * gather + scatter, 2 * gather + scatter)
    forward = behind(gather, layer.forward_seconds)
    return forward.plus(behind(gather + scatter, layer.backward_seconds))


def gradient_exchange(
    case: Case, groups: Groups, held: StageParameters, cover: float
) -> tuple[Exchange, Exchange]:
    """One step: gradients over the data ranks; for replicas (dp) and for shards (fsdp).

    All-reduce where nothing is sharded; reduce-scatter of gradients and all-gather of weights
    with sharded optimizer states; an all-reduce of the own shard over replicas besides. Hidden
    behind ``cover``, the backward pass of one micro-batch: the last, or with sharded gradients,
    which are scattered after every micro-batch, each.
    """
    work, degrees = case.work, case.degrees
    cover = cover if work.overlap else 0.0
    width = gradient_element_bytes(work.precision)
    sharded = work.sharding != "none"
    replicas = NOTHING
    if degrees.fsdp > 1 and degrees.dp > 1:
        own = held.total * width / degrees.shard_group
        replicas = behind(groups.dp.all_reduce(own), cover)
    shards = NOTHING
    if not sharded:
        shards = _reduced_in_buckets(case, groups.states, held, width, cover)
    elif work.sharding != "full":
        weights = 4 if work.precision == "fp32" else 2
        times = case.micro_batches if work.sharding == "gradients" else 1
        scatter = behind(groups.states.all_gather(held.total * width), cover)
        # The forward pass that the gathered weights arrive behind is half as long.
        gather = behind(groups.states.all_gather(held.total * weights), cover / 2)
        shards = scatter.times(times).plus(gather)
    if degrees.fsdp > 1:
        return replicas, shards
    return replicas.plus(shards), NOTHING


def _reduced_in_buckets(
    case: Case, group: Group, held: StageParameters, width: int, cover: float
) -> Exchange:
    """Gradients are averaged bucket by bucket while the backward pass goes on; the last bucket is
    full when that pass ends, and has nothing to hide behind (Li et al. 2020, section 3.2.3)."""
    seconds = _all_reduced(case, group, held, width)
    last = min(1.0, c.BUCKET_BYTES / (held.total * width)) * seconds
    return behind(seconds - last, cover).plus(Exchange(last, last))


def _all_reduced(case: Case, group: Group, held: StageParameters, width: int) -> float:
    seconds = group.all_reduce(held.shared * width) if group.ranks > 1 else 0.0
    repeated = group.ranks // case.degrees.ep
    if held.experts and repeated > 1:
        seconds += group.all_reduce(held.experts * width)
    return seconds


def pipeline_exchange(case: Case, groups: Groups) -> Exchange:
    """One micro-batch: activations to the next stage and gradients back, once for each chunk.

    Tensor ranks send a part each (Narayanan et al. 2021, section 4.1). An interleaved schedule
    with ``overlap`` hides them; in 1F1B a stage waits for its neighbour.
    """
    work, degrees = case.work, case.degrees
    if degrees.pp == 1:
        return NOTHING
    size = case.rank_tokens * case.shape.hidden * BYTES_PER_ELEMENT[work.precision]
    once = 2 * work.virtual_stages * groups.pp.send(size / degrees.tp)
    if work.overlap and work.schedule == "interleaved":
        return Exchange(once, c.CONTENTION * once)
    return Exchange(once, once)
