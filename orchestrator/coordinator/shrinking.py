"""Which runs of lower priority go on with fewer workers, so that one of higher priority starts?

The lowest priority first, and of equals the one that came last; as few runs as will do, and none
smaller than it has to be. Nobody is stopped for good. Decides for one waiting run after another;
does not know the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.coordinator.assign import assign_in
from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Holding
from orchestrator.coordinator.fitting import Fit
from orchestrator.coordinator.needs import TICKS, Shape
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import tree_of

Find = Callable[[Rooms], Fit | None]
Works = Callable[[Rooms], bool]


@dataclass(frozen=True)
class Size:
    """How large a holding is, or could be: its workers, and how many bundles of which shape lie
    where. ``back`` is what it gives back to become so large."""

    workers: int
    placed: Mapping[tuple[str, Shape], int]
    back: tuple[tuple[str, Shape, int], ...] = ()
    assignment: Assignment | None = None


class Room(NamedTuple):
    """Room that is made: the runs that shrink, to what, and what then has a place."""

    sizes: Mapping[str, Size]
    fit: Fit


class Shrinking:
    """How large each run is, what it can shrink to, and the room there will be once all have
    shrunk that were asked to. ``soon`` is that room; others take from it too."""

    def __init__(self, holding: Sequence[Holding], nodes: Sequence[Node], soon: Rooms) -> None:
        self.soon = soon
        self.coming = False
        self._nodes = {node.id: node for node in nodes}
        self._holding = {each.run: each for each in sorted(holding, key=_turn)}
        self._size = {
            each.run: Size(each.workers, Counter(each.placed)) for each in self._holding.values()
        }
        self._known: dict[str, dict[int, Size | None]] = {}
        self._most: tuple[object, Rooms] | None = None
        for each in self._holding.values():
            if each.yielding is not None and each.yielding < each.workers:
                after = self._with(each, each.yielding)
                self.carry_out({each.run: after} if after is not None else {})

    def carry_out(self, sizes: Mapping[str, Size]) -> None:
        """These runs are asked to shrink: from now on that counts as done."""
        for run, size in sizes.items():
            _give_back(self.soon, size)
            self._size[run] = size
            self._known.pop(run, None)
            self.coming = True

    def make_room(self, priority: int, find: Find, works: Works) -> Room | None:
        """The fewest runs below ``priority`` that make room for what ``find`` looks for; ``works``
        says, as cheaply as can be, whether it would find it.

        ``None`` where even all of them together do not make room; then nobody shrinks.
        """
        fewest = {
            run: size
            for run, each in self._holding.items()
            if each.priority < priority and (size := self._fewest(run)) is not None
        }
        if not fewest or not works(self._if_all_shrank(fewest)):
            return None
        chosen, rooms = self._no_more_than_needed(fewest, works)
        fit = find(rooms)
        return Room(chosen, fit) if fit is not None else None

    def _no_more_than_needed(
        self, fewest: Mapping[str, Size], works: Works
    ) -> tuple[dict[str, Size], Rooms]:
        """As few runs as will do, each as large as it may stay; and the room that this makes."""
        able = list(fewest)

        def first(count: int) -> dict[str, Size]:
            return {run: fewest[run] for run in able[:count]}

        count = _least(len(able), lambda count: works(self._after(first(count))))
        chosen, rooms = first(count), self._after(first(count))
        for run in able[: count - 1]:  # an earlier one may have been of no use
            without = rooms.copy()
            _give_back(without, chosen[run], -1)
            if works(without):
                rooms = without
                del chosen[run]
        for run, least in list(chosen.items()):
            for count in self._counts(run):
                size = self._smaller(run, count) if count > least.workers else None
                if size is None:
                    continue
                larger = rooms.copy()
                _give_back(larger, least, -1)
                _give_back(larger, size)
                if works(larger):
                    chosen[run], rooms = size, larger
                    break
        return chosen, rooms

    def _after(self, chosen: Mapping[str, Size]) -> Rooms:
        found = self.soon.copy()
        for size in chosen.values():
            _give_back(found, size)
        return found

    def _if_all_shrank(self, fewest: Mapping[str, Size]) -> Rooms:
        """The same for each of many runs that wait in vain, so it is kept."""
        key = (tuple(fewest), self.soon.num_changes)
        if self._most is None or self._most[0] != key:
            self._most = (key, self._after(fewest))
        return self._most[1]

    def _counts(self, run: str) -> list[int]:
        """To how many workers a holding can shrink, most first."""
        now = self._size[run].workers
        counts = {o.workers for o in self._holding[run].options if 0 < o.workers < now}
        return sorted(counts, reverse=True)

    def _fewest(self, run: str) -> Size | None:
        """The smallest that a holding can be."""
        sizes = (self._smaller(run, count) for count in reversed(self._counts(run)))
        return next((size for size in sizes if size is not None), None)

    def _smaller(self, run: str, workers: int) -> Size | None:
        known = self._known.setdefault(run, {})
        if workers not in known:
            known[workers] = self._with(self._holding[run], workers)
        return known[workers]

    def _with(self, holding: Holding, workers: int) -> Size | None:
        """The holding with so many workers, on what it has now; ``None`` if that cannot be."""
        now = self._size[holding.run].placed
        own = {name for name, _ in now if name in self._nodes}
        rooms = Rooms([self._nodes[name] for name in own], _amounts(now))
        tree = tree_of(rooms.nodes, holding.topology)
        for option in holding.options:
            if option.workers == workers:
                place = assign_in(option.gang, option.mesh, rooms, tree, holding.placement)
                if isinstance(place, Assignment):
                    after = Counter(place.placed)
                    return Size(workers, after, _difference(now, after), place)
        return None


def _turn(holding: Holding) -> tuple[int, int, str]:
    """Sorts holdings by who shrinks first."""
    return (holding.priority, -holding.arrived, holding.run)


def _give_back(rooms: Rooms, size: Size, sign: int = 1) -> None:
    """What comes back when a run shrinks; ``sign=-1``: it does not after all."""
    for name, shape, count in size.back:
        if name in rooms.index:
            rooms.take(rooms.index[name], shape, -sign * count)


def _amounts(placed: Mapping[tuple[str, Shape], int]) -> Mapping[str, Mapping[str, float]]:
    """What bundles occupy on each node, in Ray's words."""
    found: dict[str, dict[str, float]] = {}
    for (name, shape), count in placed.items():
        amounts = found.setdefault(name, {})
        for resource, amount in shape:
            amounts[resource] = amounts.get(resource, 0.0) + count * amount / TICKS
    return found


def _difference(
    now: Mapping[tuple[str, Shape], int], after: Mapping[tuple[str, Shape], int]
) -> tuple[tuple[str, Shape, int], ...]:
    """What comes back of each shape on each node; negative where more is taken."""
    counts = ((key, now.get(key, 0) - after.get(key, 0)) for key in {**now, **after})
    return tuple((name, shape, count) for (name, shape), count in counts if count)


def _least(most: int, works: Callable[[int], bool]) -> int:
    """The smallest count from 1 that works, where ``most`` does and more works as well as less."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle + 1, high)
    return low
