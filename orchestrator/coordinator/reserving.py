"""On which nodes is room set aside for a gang that has waited long enough?

On those where least has yet to come free, supposing that every run ends some day; and where it
was until now, unless elsewhere less is missing. So what is missing only ever becomes less, and a
gang of any size is placed in the end. Decides for one run; does not know the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Waiting
from orchestrator.coordinator.fitting import smallest, smallest_fit
from orchestrator.coordinator.needs import Need, weight
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import Tree


def reserve(waiting: Waiting, free: Rooms, potential: Rooms, tree: Tree) -> Assignment | None:
    """Where the smallest gang of ``waiting`` is to lie; ``None`` where it never could.

    ``free`` is what it might take now, ``potential`` what there will be once every run has ended.
    """
    kept = _kept(waiting, potential)
    new = _least_missing(waiting, free, potential, tree)
    if kept is None or new is None:
        return kept or new
    return new if missing(new, free) < missing(kept, free) else kept


def missing(assignment: Assignment, free: Rooms) -> int:
    """How many bundles do not have room yet where they are to lie."""
    wanted: Counter[tuple[str, Need]] = Counter(
        zip(assignment.nodes, assignment.gang.needs, strict=True)
    )
    held = {need: free.capacity(need) for _, need in wanted}
    return sum(
        max(0, count - (held[need][free.index[name]] if name in free.index else 0))
        for (name, need), count in wanted.items()
    )


def _kept(waiting: Waiting, potential: Rooms) -> Assignment | None:
    """The place of the last time, if it is still one."""
    before = waiting.reserved
    if before is None or waiting.excluded.intersection(before.nodes):
        return None
    known = any(option.gang == before.gang for option in smallest(waiting))
    return before if known and potential.hold(before.placed) else None


def _least_missing(
    waiting: Waiting, free: Rooms, potential: Rooms, tree: Tree
) -> Assignment | None:
    """On as few nodes as will do, of those where most is free already."""
    counts = smallest(waiting)[0].gang.counts
    need = max(counts, key=lambda each: (weight(each.shape), counts[each], each))
    later = potential.capacity(need)
    if sum(later) < counts[need]:
        return None
    now = free.capacity(need)
    nodes = [node for node, room in enumerate(later) if room]
    nodes.sort(key=lambda node: (-min(now[node], later[node]), later[node] - now[node]))
    size, room = 0, 0
    while room < counts[need]:
        room += later[nodes[size]]
        size += 1
    others = [node for node, held in enumerate(later) if not held] if len(counts) > 1 else []
    while True:
        found = _within([*nodes[:size], *others], waiting, potential, tree)
        if found is not None or size >= len(nodes):
            return found
        size *= 2


def _within(
    nodes: Collection[int], waiting: Waiting, potential: Rooms, tree: Tree
) -> Assignment | None:
    found = smallest_fit(waiting, potential.only(nodes), tree)
    return None if found is None else found.assignment
