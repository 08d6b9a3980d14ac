"""To which node does each bundle of a gang go, all or none, and what would have to change where
it cannot be?

Joins where things go (``layout``), over which distances groups then reach (``price``) and what is
missing (``preflight``). Knows nothing of other runs that want the nodes (``queue``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.layout import Layout, lay_out
from orchestrator.coordinator.node import Free, Node, left_out
from orchestrator.coordinator.preflight import missing_in
from orchestrator.coordinator.price import price, unmet
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.shortfall import Shortfalls, format_demand
from orchestrator.coordinator.topology import Tree, tree_of
from orchestrator.plan.mesh import Mesh

Placement = Literal["prefer", "strict"]


def assign(
    gang: Gang,
    mesh: Mesh | None,
    nodes: Sequence[Node],
    free: Free | None = None,
    topology: Sequence[str] = (),
    placement: Placement = "prefer",
    *,
    excluded: Collection[str] = (),
    smaller: Iterable[tuple[str, Gang]] = (),
) -> Assignment | Shortfalls:
    """A node for every bundle and a rank for every worker, or why there is none.

    ``mesh`` is that of the gang's workers, ``None`` where it has none. ``free`` is what nobody
    holds of each node; without it the nodes count as empty. ``topology`` are the node labels that
    say what is near, the nearest first; a node without one is a domain of its own. Nodes that are
    ``excluded`` are left out, and named in a refusal. ``strict`` refuses where a tensor·pipeline
    group would lie neither on one node nor, with labels, in one domain of the nearest; ``prefer``
    takes it and says the price. ``smaller`` are plan values and their gangs, of which a refusal
    names the first that fits (``preflight.smaller_gangs``). Raises ``ValueError`` where the mesh
    has another number of ranks than the gang has workers.
    """
    rooms = Rooms(nodes, free, excluded)
    tree = tree_of(rooms.nodes, topology)
    found = assign_in(gang, mesh, rooms, tree, placement)
    if isinstance(found, Assignment):
        return found
    missing = missing_in(gang, rooms, smaller) if not found.reasons else ()
    reasons = found.reasons
    if not missing and not reasons:
        reasons = (
            f"needs {format_demand(gang.counts)}; no place was found for all of them at once on "
            f"{_nodes(len(rooms.nodes))}, though the sum would do",
        )
    apart = left_out(nodes, excluded)
    return Shortfalls(missing, (*reasons, apart) if apart else reasons)


def assign_in(
    gang: Gang, mesh: Mesh | None, rooms: Rooms, tree: Tree, placement: Placement = "prefer"
) -> Assignment | Shortfalls:
    """``assign`` on what is left in ``rooms``; a refusal says a reason only where ``strict``
    refuses what ``prefer`` would take."""
    ranks = 0 if mesh is None else mesh.size
    if ranks != gang.workers:
        raise ValueError(f"{mesh} has {ranks} ranks, but the gang has {gang.workers} workers")
    layout = lay_out(gang, mesh, rooms, tree)
    if layout is None:
        return Shortfalls()
    by_rank = _by_rank(gang, layout)
    if placement == "strict" and mesh is not None:
        reaching, groups = unmet(mesh, by_rank, tree)
        if reaching:
            return Shortfalls(reasons=(_refusal(mesh, reaching, groups, tree),))
    names = rooms.names
    return Assignment(
        gang,
        tuple(names[node] for node in layout.nodes),
        layout.ranks,
        mesh,
        () if mesh is None else price(mesh, by_rank, names, tree),
        tuple(tree.touched(by_rank or layout.nodes)),
    )


def _by_rank(gang: Gang, layout: Layout) -> list[int]:
    found = [0] * len(layout.ranks)
    for rank, bundle in zip(layout.ranks, gang.training, strict=True):
        found[rank] = layout.nodes[bundle]
    return found


def _refusal(mesh: Mesh, reaching: int, groups: int, tree: Tree) -> str:
    size = mesh.tensor * mesh.pipeline
    kinds = "·".join(name for name in ("tensor", "pipeline") if getattr(mesh, name) > 1)
    near = f"one node or one {tree.keys[0]}" if tree.keys else "one node"
    verb = "finds" if reaching == 1 else "find"
    works = [f"{near} with room for {size} workers for each group"]
    works += [f"a smaller model.{name}" for name in kinds.split("·")]
    return (
        f"coordination.gang.placement is strict, and {reaching} of {groups} {kinds} groups of "
        f"{size} {verb} no room inside {near}; works: {', or '.join(works)}, or "
        "coordination.gang.placement=prefer"
    )


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
