"""Where is each bundle of a gang to lie, which rank is whose, and did it come out so?

Values that the shell pins bundles by and verifies afterwards. Does not find a place (``assign``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.needs import Shape
from orchestrator.coordinator.seating import groups_of, seat
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.selectors import NODE_ID, Selector

_MOST_NAMED = 8


@dataclass(frozen=True)
class Assignment:
    """``nodes[i]`` is the node of bundle *i*, ``ranks[i]`` the rank of training worker *i*.

    ``price`` are sentences on what reaches across nodes, ``reach`` says on how many domains of
    each level the workers (or, without any, all bundles) lie: ``(("node", 2), ("rack", 1))``.
    """

    gang: Gang
    nodes: tuple[str, ...]
    ranks: tuple[int, ...] = ()
    mesh: Mesh | None = None
    price: tuple[str, ...] = ()
    reach: tuple[tuple[str, int], ...] = ()

    @cached_property
    def nodes_by_rank(self) -> tuple[str, ...]:
        """The node of each rank."""
        found = [""] * len(self.ranks)
        for rank, bundle in zip(self.ranks, self.gang.training, strict=True):
            found[rank] = self.nodes[bundle]
        return tuple(found)

    @property
    def placed(self) -> tuple[tuple[str, Shape], ...]:
        """The node and the shape of each bundle."""
        return tuple(zip(self.nodes, (need.shape for need in self.gang.needs), strict=True))

    def pins(self) -> tuple[Selector, ...]:
        """For each bundle the labels that only its node has, in Ray's syntax."""
        selectors = self.gang.selectors or ({},) * len(self.nodes)
        return tuple(
            {**selector, NODE_ID: node}
            for selector, node in zip(selectors, self.nodes, strict=True)
        )

    def ranks_on(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """The rank of each worker, where ``nodes`` has the node that it came to lie on.

        Those of the assignment where the workers lie as assigned, node by node; otherwise what
        ``seat`` makes of it. Raises ``ValueError`` for another number of workers.
        """
        assert self.mesh is not None, "a gang without workers has no ranks"
        if Counter(nodes) != Counter(self.nodes_by_rank):
            return seat(self.mesh, nodes)
        waiting: dict[str, list[int]] = {}
        for rank in reversed(range(self.mesh.size)):
            waiting.setdefault(self.nodes_by_rank[rank], []).append(rank)
        return tuple(waiting[node].pop() for node in nodes)


def verify(assignment: Assignment, found: Mapping[int, str]) -> tuple[str, ...]:
    """What lies otherwise than assigned, in sentences; empty if nothing does.

    ``found`` has the node of each rank. Beside the ranks that lie elsewhere, or nowhere, those
    tensor groups are named that reach across nodes though they were not to.
    """
    wanted = assignment.nodes_by_rank
    said = [
        f"rank {rank} lies nowhere, and was to lie on {node}"
        if rank not in found
        else f"rank {rank} lies on {found[rank]}, and was to lie on {node}"
        for rank, node in enumerate(wanted)
        if found.get(rank) != node
    ]
    said += [
        f"rank {rank} on {found[rank]} is none of the {len(wanted)} that were placed"
        for rank in sorted(found)
        if not 0 <= rank < len(wanted)
    ]
    if said and assignment.mesh is not None:
        said += _torn(assignment.mesh, wanted, found)
    return tuple(said)


def name_ranks(ranks: Sequence[int]) -> str:
    """``rank 3``, ``ranks 0, 1, 4``; of many the first few."""
    named = ", ".join(map(str, ranks[:_MOST_NAMED]))
    more = f" and {len(ranks) - _MOST_NAMED} more" if len(ranks) > _MOST_NAMED else ""
    return f"rank {named}" if len(ranks) == 1 else f"ranks {named}{more}"


def _torn(mesh: Mesh, wanted: Sequence[str], found: Mapping[int, str]) -> list[str]:
    said = []
    for group in groups_of(mesh):
        for start in range(0, len(group), mesh.tensor):
            row = group[start : start + mesh.tensor]
            nodes = sorted({found[rank] for rank in row if rank in found})
            if len(nodes) > 1 and len({wanted[rank] for rank in row}) == 1:
                where = ", ".join(nodes)
                said.append(f"the tensor group of {name_ranks(row)} now reaches across {where}")
    return said
