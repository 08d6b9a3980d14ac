"""Does a gang fit when its hardest bundles go first, each to the first node that holds it?

Quick, and certain when it says yes. Knows nothing of meshes or neighbourhoods (``layout``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.coordinator.needs import Need, weight
from orchestrator.coordinator.rooms import Rooms

Placed = Mapping[Need, Sequence[tuple[int, int]]]
"""For each need, on which nodes how many such bundles go."""


def first_fit(
    counts: Mapping[Need, int], rooms: Rooms, order: Sequence[int] | None = None
) -> Placed | None:
    """Nodes for that many bundles of each need, asked in ``order``; ``None`` if none are found.

    The largest bundles go first, and if that fails those that few nodes may take; at last each
    avoids the nodes that others may need.
    """
    if any(sum(rooms.capacity(need)) < count for need, count in counts.items()):
        return None
    chosen = {need: _num_nodes(need, rooms) for need in counts}
    by_size = sorted(
        counts, key=lambda need: ([-part for part in weight(need.shape)], chosen[need])
    )
    found = _in_turn(by_size, counts, rooms.copy(), order)
    if found is not None or not any(need.selector for need in counts):
        return found
    by_labels = sorted(by_size, key=lambda need: chosen[need])
    found = _in_turn(by_labels, counts, rooms.copy(), order)
    if found is None and len(counts) > 1:
        found = _in_turn(by_labels, counts, rooms.copy(), _least_wanted(counts, rooms, order))
    return found


def _least_wanted(
    counts: Mapping[Need, int], rooms: Rooms, order: Sequence[int] | None
) -> Sequence[int]:
    """The nodes in an order in which those come first that few kinds of bundles may take."""
    selected = [rooms.selected(need.selector) for need in counts if need.selector]
    wanted = [sum(meant) for meant in zip(*selected, strict=True)]
    known = order if order is not None else range(len(rooms.nodes))
    return sorted(known, key=lambda node: wanted[node])


def _num_nodes(need: Need, rooms: Rooms) -> int:
    return sum(rooms.selected(need.selector)) if need.selector else len(rooms.nodes)


def _in_turn(
    needs: Sequence[Need], counts: Mapping[Need, int], rooms: Rooms, order: Sequence[int] | None
) -> Placed | None:
    found: dict[Need, list[tuple[int, int]]] = {}
    for need in needs:
        held, left = rooms.capacity(need), counts[need]
        found[need] = []
        for node in order if order is not None else range(len(held)):
            taken = min(left, held[node])
            if taken:
                found[need].append((node, taken))
                left -= taken
            if not left:
                break
        if left:
            return None
        for node, taken in found[need]:
            rooms.take(node, need.shape, taken)
    return found
