"""Which worker counts can carry a plan out, on which mesh, and how is a batch cut at each?

The global batch B stays what the plan says at every count K; gradient accumulation absorbs
the difference: ``B = D·b = D·m·a`` with D batch ranks, b samples per rank and step, micro-batches
of m samples and a of them accumulated. Knows nothing of the nodes that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from orchestrator.plan.elastic import can_change, counts_between, elastic_mesh, kept_size
from orchestrator.plan.mesh import Mesh, fixed_size, resolve_mesh
from orchestrator.plan.microbatches import (
    auto_accumulation,
    can_cut,
    nearest_sizes,
    schedule_problem,
    sizes_up_to,
    uncuttable,
    unsuitable,
)
from orchestrator.plan.model import Model
from orchestrator.plan.plan import Plan
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice

_SEARCHED_COUNTS = 4096
"""How far from the asked count the nearest count that works is looked for."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """How one global batch is cut: ``per_worker = micro_batch · accumulation`` samples."""

    per_worker: int
    """b: samples of one batch rank in one step."""
    micro_batch: int
    """m: samples of one forward pass."""
    accumulation: int
    """a: forward and backward passes of one step; in a pipeline, its micro-batches."""


@dataclass(frozen=True, slots=True)
class _Sizing:
    """All that decides whether a count is legal, hashable. A plan with one fixed count must fill
    it exactly; an elastic one may change ``replicate`` and ``shard``."""

    model: Model
    batch: int
    micro: int | Literal["auto"]
    elastic: bool

    def mesh(self, workers: int) -> Mesh:
        if self.elastic:
            return elastic_mesh(self.model, workers)
        return resolve_mesh(self.model, workers)

    def between(self, lowest: int, highest: int) -> range:
        return counts_between(self.model, self.elastic, lowest, highest)

    def sharing(self, lowest: int, highest: int) -> Iterable[int]:
        """``between``, but for counts that a division alone rules out; there may be thousands."""
        counts = self.between(lowest, highest)
        if not can_change(self.model):
            return counts
        size = kept_size(self.model)
        return (count for count in counts if self.batch % (count // size) == 0)

    def fills(self, workers: int) -> bool:
        try:
            self.mesh(workers)
        except Refusal:
            return False
        return True

    def fits(self, workers: int) -> bool:
        if not self.fills(workers):
            return False
        mesh = self.mesh(workers)
        share, left = divmod(self.batch, mesh.batch_degree)
        if left or not share:
            return False
        if self.micro == "auto":
            return can_cut(self.model, mesh, share)
        passes, left = divmod(share, self.micro)
        return left == 0 and schedule_problem(self.model, mesh, passes) is None


def mesh_for(plan: Plan, workers: int) -> Mesh:
    """The mesh that ``plan`` is carried out on with ``workers`` workers.

    A fixed plan's degrees must fill them exactly; an elastic one spends the difference on
    ``replicate`` and ``shard`` (``elastic_mesh``). Raises ``Refusal`` (a ``ValueError``) with
    every factor where there is none.
    """
    return _sizing(plan).mesh(workers)


def legal_workers(plan: Plan) -> tuple[int, ...]:
    """The counts within ``training.workers`` that can carry the plan out, ascending.

    A count is legal where there is a mesh for it, the batch ranks divide the global batch, the
    micro-batches divide the share of one rank, and a pipeline's schedule can run them. Empty if
    none is.
    """
    span = plan.training.workers
    return _legal(_sizing(plan), span.min, span.max)


def fixed_between(plan: Plan, lowest: int, highest: int) -> tuple[int, ...]:
    """The counts from ``lowest`` to ``highest``, both included, that this plan could name as its
    one number of workers, ascending."""
    return _legal(_sizing(plan, elastic=False), lowest, highest)


def fillable(plan: Plan) -> bool:
    """Whether there is a mesh for some count within ``training.workers``, batches left aside."""
    span, sizing = plan.training.workers, _sizing(plan)
    return any(sizing.fills(count) for count in sizing.between(span.min, span.max))


def fits(plan: Plan, workers: int) -> bool:
    """Whether ``workers`` is a legal count of this plan, its range left aside."""
    return _sizing(plan).fits(workers)


def batch_shape(plan: Plan, workers: int, cap: int | None = None) -> BatchShape:
    """How the global batch is cut over ``workers``.

    ``micro_batch: auto`` is the share of one batch rank at the largest legal count, so that a
    forward pass never needs more memory than there; at a smaller count whose share that does
    not divide, the largest divisor below it. In a pipeline it is smaller, so that there are
    enough micro-batches to keep its ranks busy. With ``cap`` the micro-batch is the largest of
    ``micro_batches`` that is not above it, and accumulation makes up for it. Raises ``Refusal`` (a
    ``ValueError``) for a count that is not legal, and where no micro-batch is as small as ``cap``.
    """
    refusal = why_not(plan, workers)
    if refusal is not None:
        raise refusal
    mesh = mesh_for(plan, workers)
    share = plan.training.global_batch // mesh.batch_degree
    micro = plan.training.micro_batch
    if micro == "auto":
        passes = auto_accumulation(plan.model, mesh, share, _smallest_micro(plan, share))
    else:
        passes = share // micro
    shape = BatchShape(share, share // passes, passes)
    return shape if cap is None else _capped(plan, mesh, shape, cap)


def micro_batches(plan: Plan, workers: int) -> tuple[int, ...]:
    """The sizes that a micro-batch may have at ``workers``, the largest first: the plan's own, and
    every smaller one that divides the share of a batch rank and suits the pipeline's schedule.

    Whoever runs out of memory at one of them can go on with the next, at the same global batch.
    Raises ``Refusal`` (a ``ValueError``) for a count that is not legal.
    """
    shape = batch_shape(plan, workers)
    mesh = mesh_for(plan, workers)
    return sizes_up_to(plan.model, mesh, shape.per_worker, shape.micro_batch)


def why_not(plan: Plan, workers: int) -> Refusal | None:
    """Why ``workers`` is not a legal count of this plan; ``None`` if it is."""
    try:
        mesh = mesh_for(plan, workers)
    except Refusal as refusal:
        return refusal
    return batch_refusal(plan, mesh) or micro_refusal(plan, mesh)


def batch_refusal(plan: Plan, mesh: Mesh) -> Refusal | None:
    """The global batch does not divide over the batch ranks of ``mesh``; or ``None``."""
    batch, degree = plan.training.global_batch, mesh.batch_degree
    times, left = divmod(batch, degree)
    if left == 0 and times > 0:
        return None
    batches = [f"{times * degree}"] if times else []
    batches.append(f"{(times + 1) * degree}")
    counts = [str(count) for count in nearest_counts(plan, mesh.size)]
    other = f", or training.workers={choice(counts)}" if counts else ""
    return Refusal(
        f"a global batch of {batch} cannot be shared evenly by {degree} workers"
        if degree == mesh.size
        else f"a global batch of {batch} cannot be shared evenly by {degree} batch ranks",
        f"replicate {mesh.replicate} · shard {mesh.shard} = {degree}, "
        f"and {batch} = {degree}·{times} + {left}",
        f"training.global_batch={choice(batches)}{other}",
    )


def micro_refusal(plan: Plan, mesh: Mesh) -> Refusal | None:
    """Micro-batches that do not divide the share of one batch rank, or do not suit the pipeline's
    schedule; or ``None``. The global batch must divide over the batch ranks."""
    batch, micro = plan.training.global_batch, plan.training.micro_batch
    refusal = uncuttable(plan.model, mesh, batch, micro)
    if refusal is not None or micro == "auto":
        return refusal
    share = batch // mesh.batch_degree
    if share % micro == 0:
        return unsuitable(plan.model, mesh, batch, micro)
    near = nearest_sizes(plan.model, mesh, share, micro)
    return Refusal(
        f"micro-batches of {micro} do not divide the {share} samples of each batch rank",
        f"global batch {batch} / (replicate {mesh.replicate} · shard {mesh.shard}) = {share}, "
        f"and {share} = {micro}·{share // micro} + {share % micro}",
        f"training.micro_batch={choice([*near, 'auto'])}",
    )


def nearest_counts(plan: Plan, workers: int) -> list[int]:
    """The nearest counts below and above ``workers`` that the plan could name as its one number
    of workers."""
    fixed = fixed_size(plan.model)
    lowest = max(1, workers - _SEARCHED_COUNTS)
    # With more batch ranks than samples no count is legal, so there is no use in going on.
    highest = min(workers + _SEARCHED_COUNTS, max(workers, plan.training.global_batch) * fixed)
    sizing = _sizing(plan, elastic=False)
    down = _first(sizing.fits, reversed(sizing.between(lowest, workers - 1)))
    up = _first(sizing.fits, sizing.between(workers + 1, highest))
    return [count for count in (down, up) if count is not None]


def nearest_ranges(plan: Plan, batch_matters: bool = True) -> list[tuple[int, int]]:
    """The plan's range of workers made wider until it holds a legal count: downwards, upwards.

    Without ``batch_matters``, a count for which there is a mesh.
    """
    span, sizing = plan.training.workers, _sizing(plan)
    accepts = sizing.fits if batch_matters else sizing.fills
    lowest = max(1, span.min - _SEARCHED_COUNTS)
    below = _first(accepts, reversed(sizing.between(lowest, span.min - 1)))
    above = _first(accepts, sizing.between(span.max + 1, span.max + _SEARCHED_COUNTS))
    down = [] if below is None else [(below, span.max)]
    return down if above is None else [*down, (span.min, above)]


def _first(accepts: Callable[[int], bool], counts: Iterable[int]) -> int | None:
    return next((count for count in counts if accepts(count)), None)


def _sizing(plan: Plan, elastic: bool | None = None) -> _Sizing:
    training = plan.training
    changes = training.workers.elastic if elastic is None else elastic
    return _Sizing(plan.model, training.global_batch, training.micro_batch, changes)


@lru_cache(maxsize=256)  # asked for again for every count that is shown
def _legal(sizing: _Sizing, lowest: int, highest: int) -> tuple[int, ...]:
    return tuple(count for count in sizing.sharing(lowest, highest) if sizing.fits(count))


def _capped(plan: Plan, mesh: Mesh, shape: BatchShape, cap: int) -> BatchShape:
    sizes = sizes_up_to(plan.model, mesh, shape.per_worker, shape.micro_batch)
    size = next((size for size in sizes if size <= cap), None)
    if size is None:
        raise Refusal(
            f"no micro-batch is as small as {cap}",
            f"the {shape.per_worker} samples of each batch rank can be cut into micro-batches of "
            f"{choice([str(size) for size in sizes])}",
            f"a cap of {sizes[-1]}",
        )
    return BatchShape(shape.per_worker, size, shape.per_worker // size)


def _smallest_micro(plan: Plan, share: int) -> int:
    """m of ``auto`` at the largest legal count, where a rank's share is smallest."""
    legal = legal_workers(plan)
    if not legal:
        return share
    mesh = mesh_for(plan, legal[-1])
    smallest = plan.training.global_batch // mesh.batch_degree
    return smallest // auto_accumulation(plan.model, mesh, smallest, smallest)
