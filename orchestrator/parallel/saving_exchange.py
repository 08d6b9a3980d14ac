"""How do workers tell one another things beside the steps?

Collectives on picklable values over a process group of its own, so that they can go on in a thread
while steps use theirs. Every worker must make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from orchestrator.parallel.world import World


@dataclass(frozen=True)
class Exchange:
    """This worker's place among those that exchange values; ``group`` is ``None`` for the group
    of the steps, or where there is one worker."""

    rank: int
    size: int
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks for all of them."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """One value of every worker, by rank, on every worker."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: Any) -> Any:
        """The first worker's value, on every worker."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def decide(self, value: Any, decision: Callable[[list[Any]], Sequence[Any]]) -> Any:
        """What ``decision`` gives this worker, of the values of all; the first one decides."""
        if self.size == 1:
            return decision([value])[0]
        values: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.group)
        answers = list(decision(values)) if values is not None else [None] * self.size
        answer: list[Any] = [None]
        dist.scatter_object_list(answer, answers, src=0, group=self.group)
        return answer[0]


def open_exchange(world: World, timeout_seconds: float) -> Exchange:
    """A new group of all workers, which call this together; it works on host memory.

    A worker that waits for the others longer than ``timeout_seconds`` gives up.
    """
    if world.size == 1:
        return Exchange(0, 1)
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
    return Exchange(world.rank, world.size, group)
