"""Which of many candidates are beaten by no other in everything at once?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def pareto_front(
    items: Sequence[Item], objectives: Callable[[Item], tuple[float, ...]]
) -> tuple[Item, ...]:
    """Items that no other item equals or beats in every objective, smaller being better.

    Sorted by the first objective. Of items with equal objectives the first is kept.
    """
    ordered = sorted(items, key=objectives)
    front: list[tuple[tuple[float, ...], Item]] = []
    for item in ordered:
        values = objectives(item)
        if not any(_beats(kept, values) for kept, _ in front):
            front.append((values, item))
    return tuple(item for _, item in front)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))
