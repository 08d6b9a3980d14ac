"""Which micro-batch does memory allow?

A group that ran out of memory goes on with smaller micro-batches, and more of them: the global
batch stays what the plan says. Knows the legal sizes and what was tried, not what memory there is.
"""

from __future__ import annotations

from orchestrator.coordinator.state import RunState
from orchestrator.plan.wording import choice

ADVICE = "model.activation_checkpoint=full, a larger model.shard or more training.workers"


def legal_sizes(state: RunState) -> tuple[int, ...]:
    """The sizes of a micro-batch at the present number of workers, largest first; the first is
    the plan's own. Empty where they are not known."""
    return tuple(state.policy.micro_batches.get(state.workers, ())) if state.policy else ()


def micro_batch_of(state: RunState) -> int | None:
    """The size to train with: the largest that memory is known to allow, or where even the
    smallest is above that, the smallest. ``None``: as the plan says."""
    most, sizes = state.micro_batch, legal_sizes(state)
    if most is None:
        return None
    fitting = [size for size in sizes if size <= most] or list(sizes[-1:])
    return fitting[0] if fitting else most


def next_smaller(state: RunState) -> int | None:
    """The next smaller size than the one in use; ``None`` where there is none."""
    sizes = legal_sizes(state)
    in_use = micro_batch_of(state) or max(sizes, default=0)
    return next((size for size in sizes if size < in_use), None)


def arithmetic(state: RunState) -> str:
    """What was in use, and what else there is."""
    sizes = legal_sizes(state)
    in_use = micro_batch_of(state) or max(sizes)
    legal = choice([str(size) for size in sizes])
    of = f"of {legal} that are legal" if len(sizes) > 1 else "the only legal size"
    return f"micro-batches of {in_use}, {of} on {state.workers} workers"
