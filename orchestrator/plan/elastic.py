"""Which mesh does an elastic plan take at each number of workers?

Pure arithmetic. ``tensor``, ``pipeline``, ``context`` and ``expert`` keep their degrees, because
they say how one model is cut; the change is spent on ``replicate`` first, then on ``shard``.
Their product is what the kept degrees leave of the workers, so the number of batch ranks is
decided by the number of workers alone. Knows nothing of batches and nodes.
"""

from __future__ import annotations

import math

from orchestrator.plan.mesh import (
    DIMENSIONS,
    SHORT_NAMES,
    Mesh,
    fixed_size,
    has_rest,
    resolve_mesh,
    two_rests,
)
from orchestrator.plan.model import Model
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice, either

CHANGING = ("replicate", "shard")
"""What a change of the number of workers is spent on, the first before the second."""

KEPT = tuple(name for name in DIMENSIONS if name not in CHANGING)
"""Dimensions that keep their degrees; so does ``expert``, which takes no workers of its own."""


def elastic_mesh(model: Model, workers: int) -> Mesh:
    """The mesh of ``model`` over ``workers`` ranks, as near to its degrees as it can be.

    Where the degrees fill the workers, it is they. Otherwise ``shard`` is the largest divisor of
    what the kept degrees leave that is not above the plan's, and ``replicate`` the rest; where
    ``shard`` is -1, it takes what the largest such ``replicate`` leaves. A plan that leaves one of
    the kept degrees to the workers (-1) has no other mesh than its own. Raises ``Refusal`` where
    the kept degrees do not divide the workers, or ``expert`` not the ranks that it reuses.
    """
    if not can_change(model):
        return resolve_mesh(model, workers)
    left, remainder = divmod(workers, kept_size(model))
    if remainder or not left:
        raise _no_whole_copies(model, workers)
    kept = {name: getattr(model, name) for name in KEPT}
    return Mesh(**_spent(model, left), **kept, expert=model.expert)


def can_change(model: Model) -> bool:
    """Whether the mesh may differ from the plan's degrees: all kept ones are numbers."""
    return two_rests(model) is None and all(getattr(model, name) != -1 for name in KEPT)


def kept_size(model: Model) -> int:
    """Workers that hold one copy of the model: the product of the kept degrees."""
    return math.prod(getattr(model, name) for name in KEPT)


def counts_between(model: Model, elastic: bool, lowest: int, highest: int) -> range:
    """Numbers of workers from ``lowest`` to ``highest`` that may fill the mesh; no others can."""
    if elastic and can_change(model):
        step = kept_size(model)
    elif has_rest(model):
        step = fixed_size(model)
    else:
        size = fixed_size(model)
        return range(size, size + 1) if lowest <= size <= highest else range(0)
    return range(-(-max(lowest, 1) // step) * step, highest + 1, step)


def divisors(number: int) -> list[int]:
    """All divisors of a number from 1, ascending; none of 0."""
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return low + [number // d for d in reversed(low) if d * d != number]


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of ``number`` that is not above ``at_most``, both from 1."""
    return max(d for d in divisors(number) if d <= at_most)


def _spent(model: Model, left: int) -> dict[str, int]:
    if model.shard == -1:
        replicate = largest_divisor(left, model.replicate)
        return {"replicate": replicate, "shard": left // replicate}
    shard = largest_divisor(left, model.shard)
    return {"replicate": left // shard, "shard": shard}


def _no_whole_copies(model: Model, workers: int) -> Refusal:
    size = kept_size(model)
    times, remainder = divmod(workers, size)
    factors = " · ".join(f"{name} {getattr(model, name)}" for name in SHORT_NAMES if name in KEPT)
    smaller = [
        f"model.{name}={fitting[-1]}"
        for name in KEPT
        if (degree := getattr(model, name)) > 1
        and (fitting := [d for d in range(1, degree) if workers % (size // degree * d) == 0])
    ]
    counts = [str(count * size) for count in (times, times + 1) if count]
    return Refusal(
        f"{workers} workers do not hold whole copies of the model",
        f"{factors} = {size} does not divide {workers} workers "
        f"({workers} = {size}·{times} + {remainder})",
        either([f"a multiple of {size} workers, such as {choice(counts)}", *smaller]),
    )
