"""On which node does each bundle of a gang lie, and which rank takes each worker?

Workers first: as many tensor·pipeline groups as possible inside one node, the others as near
together as they can be, all of them in few domains. Then the bundles that hold more than a worker
are dealt over those nodes, replicas apart from one another; then bundles without a worker follow.
Where that leaves something without a place, the hardest bundles go first and groups form on what
comes of it. Nodes are indexes into ``Rooms``; does not know why anybody asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.coordinator.dealing import deal, place_others
from orchestrator.coordinator.first_fit import first_fit
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.needs import Need, weight
from orchestrator.coordinator.packing import nest
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.seating import groups_of
from orchestrator.coordinator.topology import Tree
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.selectors import Selector, combine


@dataclass(frozen=True)
class Layout:
    """``nodes[i]`` is the node of bundle *i*, ``ranks[i]`` the rank of training worker *i*."""

    nodes: tuple[int, ...]
    ranks: tuple[int, ...]


def lay_out(gang: Gang, mesh: Mesh | None, rooms: Rooms, tree: Tree) -> Layout | None:
    """The best layout that is found; ``None`` if there is none, which for bundles that are all
    alike is certain.

    ``mesh`` is that of the gang's workers, ``None`` where it has none. ``rooms`` is left as it is.
    """
    if any(sum(rooms.capacity(need)) < count for need, count in gang.counts.items()):
        return None
    for need in _seat_sizes(gang):
        found = _around_workers(gang, mesh, rooms, tree, need)
        if found is not None:
            return found
    return _hardest_first(gang, mesh, rooms, tree)


def seat_ranks(mesh: Mesh, slots: Sequence[int], tree: Tree) -> list[int] | None:
    """The node of each rank, where ``slots`` are the workers that each node holds; ``None`` if
    they are too few.

    No tensor group reaches across nodes while some node has room for it; of the pipelines as many
    as possible lie on one node, then in one domain of the nearest label, and so on.
    """
    if sum(slots) < mesh.size:
        return None
    if mesh.tensor * mesh.pipeline == 1:
        return [node for (node,) in nest(tree, list(slots), 1, mesh.size)[0]]
    rows = [units // mesh.tensor for units in slots]
    left_rows = rows.copy()
    whole, left = nest(tree, left_rows, mesh.pipeline, mesh.size // (mesh.tensor * mesh.pipeline))
    groups = [[node for node in stages for _ in range(mesh.tensor)] for stages in whole]
    if left:
        used = (before - after for before, after in zip(rows, left_rows, strict=True))
        left_slots = [s - u * mesh.tensor for s, u in zip(slots, used, strict=True)]
        groups += _straddling(mesh, left_slots, tree, left)
    groups.sort(key=lambda nodes: tree.order[nodes[0]])
    found = [0] * mesh.size
    for ranks, nodes in zip(groups_of(mesh), groups, strict=True):
        for rank, node in zip(ranks, nodes, strict=True):
            found[rank] = node
    return found


def _straddling(mesh: Mesh, slots: list[int], tree: Tree, count: int) -> list[list[int]]:
    """The groups that no place holds in whole tensor groups; ``slots`` hold all their ranks."""
    wanted = count * mesh.pipeline
    rows = [(node,) * mesh.tensor for node, units in enumerate(slots)
            for _ in range(units // mesh.tensor)][:wanted]  # fmt: skip
    for row in rows:
        slots[row[0]] -= mesh.tensor
    torn, _ = nest(tree, slots, mesh.tensor, wanted - len(rows), first_level=1)
    rows = sorted([*rows, *torn], key=lambda row: tree.order[row[0]])
    starts = range(0, wanted, mesh.pipeline)
    return [[node for row in rows[i : i + mesh.pipeline] for node in row] for i in starts]


def _seat_sizes(gang: Gang) -> list[Need]:
    """What to take a worker's seat for: the smallest of their bundles, which may prove too
    hopeful, then one that would do for all of them."""
    needs = Counter(gang.needs[bundle] for bundle in gang.training)
    if not needs:
        return [Need(())]
    smallest = min(needs, key=lambda need: (weight(need.shape), len(need.selector), need))
    largest = _envelope(needs)
    return [smallest] if largest is None or largest == smallest else [smallest, largest]


def _envelope(needs: Iterable[Need]) -> Need | None:
    shape: dict[str, int] = {}
    selector: Selector = {}
    for need in needs:
        for name, amount in need.shape:
            shape[name] = max(shape.get(name, 0), amount)
        common = combine(selector, dict(need.selector))
        if common is None:
            return None
        selector = common
    return Need(tuple(sorted(shape.items())), tuple(sorted(selector.items())))


def _around_workers(
    gang: Gang, mesh: Mesh | None, rooms: Rooms, tree: Tree, seat: Need
) -> Layout | None:
    by_rank = [] if mesh is None else seat_ranks(mesh, rooms.capacity(seat), tree)
    if by_rank is None:
        return None
    alike = len(gang.counts) == 1 and not gang.inference
    if alike and gang.training == (*range(len(gang.bundles)),):
        return Layout(tuple(by_rank), gang.training)  # each worker has the rank of its number
    placed = deal(gang, by_rank, rooms, tree)
    if placed is None or not place_others(gang, placed, rooms, tree):
        return None
    return _layout(gang, placed, by_rank)


def _hardest_first(gang: Gang, mesh: Mesh | None, rooms: Rooms, tree: Tree) -> Layout | None:
    order = sorted(range(len(tree.order)), key=lambda node: tree.order[node])
    # What ``preflight`` finds is found here too, so that no gang is let in that cannot be placed.
    found = first_fit(gang.counts, rooms, order) or first_fit(gang.counts, rooms)
    if found is None:
        return None
    nodes = {
        need: iter([node for node, count in taken for _ in range(count)])
        for need, taken in found.items()
    }
    placed = {bundle: next(nodes[need]) for bundle, need in enumerate(gang.needs)}
    if mesh is None:
        return _layout(gang, placed, [])
    slots = [0] * len(rooms.nodes)
    for bundle in gang.training:
        slots[placed[bundle]] += 1
    return _layout(gang, placed, seat_ranks(mesh, slots, tree) or [])


def _layout(gang: Gang, placed: dict[int, int], by_rank: Sequence[int]) -> Layout:
    waiting: dict[int, list[int]] = defaultdict(list)
    for rank in reversed(range(len(by_rank))):
        waiting[by_rank[rank]].append(rank)
    ranks = tuple(waiting[placed[bundle]].pop() for bundle in gang.training)
    return Layout(tuple(placed[bundle] for bundle in range(len(gang.bundles))), ranks)
