"""What does one bundle need of the node that it goes to, as a value to count and compare?

Amounts are whole ticks of 1/10,000, which is Ray's own resolution, so that taking and giving
back is exact however often it is done. Does not know nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.plan.selectors import Selector

TICKS = 10_000
"""Ticks of one unit of a resource."""

BOUNDLESS = 10**9
"""How often what needs nothing fits anywhere."""

Shape = tuple[tuple[str, int], ...]
"""Resources and their ticks, by name, none of them 0."""


class Need(NamedTuple):
    """What a bundle needs: resources in ticks, and labels of the node. Few gangs have many."""

    shape: Shape
    selector: tuple[tuple[str, str], ...] = ()

    @property
    def bundle(self) -> dict[str, float]:
        """The resources as Ray has them."""
        return {name: amount / TICKS for name, amount in self.shape}


def need_of(bundle: Mapping[str, float], selector: Selector | None = None) -> Need:
    """The need of a bundle; what is smaller than a tick still counts as one."""
    shape = ((name, max(1, ticks(amount))) for name, amount in sorted(bundle.items()) if amount > 0)
    return Need(tuple(shape), tuple(sorted((selector or {}).items())))


def ticks(amount: float) -> int:
    """An amount of a resource in ticks."""
    return round(amount * TICKS)


def capacity(shape: Shape, room: Mapping[str, int]) -> int:
    """How many such bundles a room holds."""
    return min((max(0, room.get(name, 0)) // amount for name, amount in shape), default=BOUNDLESS)


def covers(larger: Shape, smaller: Shape) -> bool:
    """Whether a room for ``larger`` is one for ``smaller``."""
    amounts = dict(larger)
    return all(amounts.get(name, 0) >= amount for name, amount in smaller)


def weight(shape: Shape) -> tuple[int, ...]:
    """Sorts shapes by how hard they are to place: what few nodes have counts most."""
    amounts = dict(shape)
    rare = sum(amount for name, amount in shape if name not in ("CPU", "memory"))
    return (rare, amounts.get("CPU", 0), amounts.get("memory", 0))
