"""What is free on each node, given that the cluster's own answer lags behind?

Ray's view of a node follows a reservation by some tenths of a second, in both directions. Ours is
exact for what we hold and knows nothing of others. The lower of the two is never too much of what
we hold, and soon right about others; what we gave back a moment ago is free, whatever Ray says.
Does not ask anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.coordinator.needs import TICKS, Shape
from orchestrator.coordinator.node import Free, Node


def vacancy(
    nodes: Sequence[Node],
    reported: Free,
    held: Iterable[tuple[str, Shape]],
    returned: Iterable[tuple[str, Shape]] = (),
) -> Free:
    """What nobody holds of each live node.

    ``reported`` is what Ray says is free; a node that it does not name yet has nothing. ``held``
    are the bundles of our own gangs, with their nodes, and ``returned`` those that were given back
    so lately that Ray may not have noticed.
    """
    left = {node.id: dict(node.resources) for node in nodes if node.alive}
    said = {name: dict(room) for name, room in reported.items()}
    _add(left, held, -1)
    _add(said, returned, 1)
    return {
        name: {
            resource: max(0.0, min(amount, said.get(name, {}).get(resource, 0.0)))
            for resource, amount in room.items()
        }
        for name, room in left.items()
    }


def _add(
    rooms: dict[str, dict[str, float]], placed: Iterable[tuple[str, Shape]], sign: int
) -> None:
    for name, shape in placed:
        room = rooms.get(name, {})
        for resource, amount in shape:
            if resource in room:
                room[resource] += sign * amount / TICKS
            elif sign > 0 and name in rooms:
                room[resource] = amount / TICKS
