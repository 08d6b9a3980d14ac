"""Which rank does each worker take, given the node that it came to lie on?

Ranks are numbered so that pipeline stages lie far apart, while what talks most should share a
node: every tensor·pipeline group that a node has room for is seated there. Does not know how
workers were placed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.plan.mesh import Mesh


def seat(mesh: Mesh, nodes: Sequence[str]) -> tuple[int, ...]:
    """The rank of each worker, where ``nodes`` has the node of each.

    Nodes are filled in the order in which they appear: first with whole tensor·pipeline groups,
    in the order of the samples that they see, then with whole tensor groups of those that no node
    has room for, then with the ranks that are left. Raises ``ValueError`` for another number of
    workers than the mesh has ranks.
    """
    if len(nodes) != mesh.size:
        raise ValueError(f"{mesh} has {mesh.size} ranks, but there are {len(nodes)} workers")
    free = {node: [i for i, each in enumerate(nodes) if each == node] for node in nodes}
    taken: dict[int, int] = {}
    groups = _seat_whole(list(groups_of(mesh)), free, taken)
    rows = [
        group[i : i + mesh.tensor] for group in groups for i in range(0, len(group), mesh.tensor)
    ]
    left = _seat_whole(rows, free, taken)
    ranks = iter([rank for row in left for rank in row])
    taken.update({worker: next(ranks) for workers in free.values() for worker in workers})
    return tuple(taken[worker] for worker in range(len(nodes)))


def groups_of(mesh: Mesh) -> Iterator[list[int]]:
    """The ranks of every tensor·pipeline group in the order of the samples that they see, stage
    after stage, tensor neighbours beside one another."""
    num_in_stage = mesh.size // mesh.pipeline
    for first in range(0, num_in_stage, mesh.tensor):
        yield [
            stage * num_in_stage + first + column
            for stage in range(mesh.pipeline)
            for column in range(mesh.tensor)
        ]


def _seat_whole(
    groups: Sequence[list[int]], free: dict[str, list[int]], taken: dict[int, int]
) -> list[list[int]]:
    """Seat each group on the first node with room for all of it; returns those without one."""
    left = []
    for ranks in groups:
        room = next((seats for seats in free.values() if len(seats) >= len(ranks)), None)
        if room is None:
            left.append(ranks)
            continue
        taken.update(zip(room[: len(ranks)], ranks, strict=True))
        del room[: len(ranks)]
    return left
