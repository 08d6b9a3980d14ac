"""Which worker counts can carry a plan out, and how is a batch cut at each of them?

The global batch B stays what the plan says at every count K; gradient accumulation absorbs
the difference: ``B = D·b = D·m·a`` with D batch ranks, b samples per rank and step, micro-batches
of m samples and a of them accumulated. Knows nothing of the nodes that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from orchestrator.plan.mesh import Mesh, fixed_size, has_rest, resolve_mesh
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
    """a: forward and backward passes of one step."""


def legal_workers(plan: Plan) -> tuple[int, ...]:
    """The counts within ``training.workers`` that can carry the plan out, ascending.

    A count is legal where the mesh fills it, the batch ranks divide the global batch, and an
    explicit micro-batch divides the share of one rank. Empty if none is.
    """
    return legal_between(plan, plan.training.workers.min, plan.training.workers.max)


def legal_between(plan: Plan, lowest: int, highest: int) -> tuple[int, ...]:
    """The legal counts from ``lowest`` to ``highest``, both included, ascending."""
    training = plan.training
    return _legal(plan.model, training.global_batch, training.micro_batch, lowest, highest)


def fits(plan: Plan, workers: int) -> bool:
    """Whether ``workers`` is a legal count of this plan, its range left aside."""
    return _fits(plan.model, plan.training.global_batch, plan.training.micro_batch, workers)


@lru_cache(maxsize=256)  # asked for again for every count that is shown
def _legal(
    model: Model, batch: int, micro: int | Literal["auto"], lowest: int, highest: int
) -> tuple[int, ...]:
    fixed = fixed_size(model)
    if not has_rest(model):
        return (fixed,) if lowest <= fixed <= highest and _fits(model, batch, micro, fixed) else ()
    first = -(-max(lowest, 1) // fixed) * fixed
    counts = range(first, highest + 1, fixed)
    return tuple(count for count in counts if _fits(model, batch, micro, count))


def _fits(model: Model, batch: int, micro: int | Literal["auto"], workers: int) -> bool:
    try:
        mesh = resolve_mesh(model, workers)
    except Refusal:
        return False
    share, left = divmod(batch, mesh.batch_degree)
    return share > 0 and left == 0 and (micro == "auto" or share % micro == 0)


def batch_shape(plan: Plan, workers: int) -> BatchShape:
    """How the global batch is cut over ``workers``.

    ``micro_batch: auto`` is the share of one batch rank at the largest legal count, so that a
    forward pass never needs more memory than there; at a smaller count whose share that does
    not divide, the largest divisor below it. Raises ``Refusal`` (a ``ValueError``) for a count
    that is not legal.
    """
    mesh = resolve_mesh(plan.model, workers)
    refusal = batch_refusal(plan, mesh) or micro_refusal(plan, mesh)
    if refusal is not None:
        raise refusal
    share = plan.training.global_batch // mesh.batch_degree
    micro = plan.training.micro_batch
    if micro == "auto":
        micro = _largest_divisor(share, _smallest_share(plan, share))
    return BatchShape(share, micro, share // micro)


def why_not(plan: Plan, workers: int) -> Refusal | None:
    """Why ``workers`` is not a legal count of this plan; ``None`` if it is."""
    try:
        mesh = resolve_mesh(plan.model, workers)
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
    """An explicit micro-batch does not divide the share of one batch rank; or ``None``."""
    micro = plan.training.micro_batch
    share = plan.training.global_batch // mesh.batch_degree
    if micro == "auto" or (share and share % micro == 0):
        return None
    below = _largest_divisor(share, micro)
    above = next((d for d in range(micro + 1, share + 1) if share % d == 0), None)
    sizes = [str(size) for size in (below, above) if size is not None]
    return Refusal(
        f"micro-batches of {micro} do not divide the {share} samples of each worker",
        f"{plan.training.global_batch} / {mesh.batch_degree} = {share}, "
        f"and {share} = {micro}·{share // micro} + {share % micro}",
        f"training.micro_batch={choice([*sizes, 'auto'])}",
    )


def nearest_counts(plan: Plan, workers: int) -> list[int]:
    """The nearest legal counts below and above ``workers``, the plan's range left aside."""
    fixed = fixed_size(plan.model)
    lowest = max(1, workers - _SEARCHED_COUNTS)
    # With more batch ranks than samples no count is legal, so there is no use in going on.
    highest = min(workers + _SEARCHED_COUNTS, max(workers, plan.training.global_batch) * fixed)
    found = [
        next((count for count in candidates if count % fixed == 0 and fits(plan, count)), None)
        for candidates in (range(workers - 1, lowest - 1, -1), range(workers + 1, highest + 1))
    ]
    return [count for count in found if count is not None]


def _smallest_share(plan: Plan, share: int) -> int:
    legal = legal_workers(plan)
    if not legal:
        return share
    largest = resolve_mesh(plan.model, legal[-1])
    return plan.training.global_batch // largest.batch_degree


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)
