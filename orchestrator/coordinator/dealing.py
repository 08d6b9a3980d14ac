"""Once it is known how many workers each node holds: which bundle is whose, and where do the
bundles go that hold no worker?

Bundles differ where data tasks or replicas need more than a worker does. Replicas are dealt over
as many nodes as there are, so that losing one node loses few of them; data tasks go where workers
are already. Does not know ranks' places in the mesh.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.needs import Need, capacity, covers, weight
from orchestrator.coordinator.packing import choose, spread
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import Tree

_Class = tuple[Need, bool]
"""Bundles that may stand in for one another: equal needs, and with or without a replica."""


def deal(gang: Gang, by_rank: Sequence[int], rooms: Rooms, tree: Tree) -> dict[int, int] | None:
    """The node of each bundle of a worker, where ``by_rank`` are the nodes that have seats;
    ``None`` where a bundle finds no seat that is large enough."""
    classes = _classes(gang, gang.training)
    if len(classes) < 2:
        return dict(zip(gang.training, by_rank, strict=True))
    seats = Counter(by_rank)
    nodes = sorted(seats, key=lambda node: tree.order[node])
    smallest = min(classes, key=_hardness)
    placed: dict[int, int] = {}
    for kind in sorted(classes, key=_hardness, reverse=True):
        bundles = classes[kind][::-1]
        if kind == smallest:
            left = [node for node in nodes for _ in range(seats[node])]
            placed.update(zip(reversed(bundles), left, strict=True))
            break
        _deal_in_turn(kind[0], bundles, (nodes, seats, smallest[0]), rooms, placed, gang)
        if bundles:
            return None
    return placed if _holds(gang, placed, rooms) else None


def place_others(gang: Gang, placed: dict[int, int], rooms: Rooms, tree: Tree) -> bool:
    """Add the nodes of all further bundles to ``placed``; whether there is one for each."""
    others = [bundle for bundle in range(len(gang.bundles)) if bundle not in placed]
    if not others:
        return True
    left = rooms.copy()
    for (node, need), count in Counter((node, gang.needs[b]) for b, node in placed.items()).items():
        left.take(node, need.shape, count)
    classes = _classes(gang, others)
    for need, serves in sorted(classes, key=_hardness, reverse=True):
        bundles, held = classes[need, serves], left.capacity(need)
        touched = sorted(set(placed.values()), key=lambda node: tree.order[node])
        where = (
            _apart(gang, placed, held, tree, len(bundles))
            if serves
            else _near(touched, held, tree, len(bundles))
        )
        if where is None:
            return False
        for node, count in where:
            left.take(node, need.shape, count)
        nodes = (node for node, count in where for _ in range(count))
        placed.update(zip(bundles, nodes, strict=True))
    return True


def _classes(gang: Gang, bundles: Sequence[int]) -> Mapping[_Class, list[int]]:
    serving = set(gang.inference)
    found: dict[_Class, list[int]] = defaultdict(list)
    for bundle in bundles:
        found[gang.needs[bundle], bundle in serving].append(bundle)
    return found


def _hardness(kind: _Class) -> tuple[object, ...]:
    need, serves = kind
    return (weight(need.shape), len(need.selector), serves, need)


def _deal_in_turn(
    need: Need,
    bundles: list[int],
    seats_of: tuple[Sequence[int], Counter[int], Need],
    rooms: Rooms,
    placed: dict[int, int],
    gang: Gang,
) -> None:
    """One bundle to each node in turn, where it leaves room for what its other seats need."""
    nodes, seats, smallest = seats_of
    selected = rooms.selected(need.selector)
    left = {node: dict(rooms.amounts(node)) for node in nodes}
    for bundle, node in placed.items():
        _less(left[node], gang.needs[bundle])
    ring = [node for node in nodes if seats[node] and selected[node]]
    while ring and bundles:
        again = []
        for node in ring:
            if not bundles:
                break
            after = dict(left[node])
            _less(after, need)
            if min(after.values()) < 0 or capacity(smallest.shape, after) < seats[node] - 1:
                continue
            left[node] = after
            placed[bundles.pop()] = node
            seats[node] -= 1
            if seats[node]:
                again.append(node)
        ring = again


def _less(amounts: dict[str, int], need: Need) -> None:
    for name, amount in need.shape:
        amounts[name] = amounts.get(name, 0) - amount


def _holds(gang: Gang, placed: Mapping[int, int], rooms: Rooms) -> bool:
    """Whether each node holds what was dealt to it: the smallest bundle need not be smaller in
    every resource."""
    needs: dict[int, dict[str, int]] = defaultdict(dict)
    for bundle, node in placed.items():
        _less(needs[node], gang.needs[bundle])
        if not rooms.selected(gang.needs[bundle].selector)[node]:
            return False
    shapes = {
        node: tuple((name, -amount) for name, amount in total.items())
        for node, total in needs.items()
    }
    return all(covers(tuple(rooms.amounts(node).items()), shape) for node, shape in shapes.items())


def _near(
    touched: Sequence[int], held: Sequence[int], tree: Tree, count: int
) -> list[tuple[int, int]] | None:
    """Beside what is placed already, then on few further nodes."""
    found = []
    for node in touched:
        taken = min(count, held[node])
        if taken:
            found.append((node, taken))
            count -= taken
    known = set(touched)
    rest = [0 if node in known else room for node, room in enumerate(held)]
    if sum(rest) < count:
        return None
    return found + choose(tree, 0, rest, count) if count else found


def _apart(
    gang: Gang, placed: Mapping[int, int], held: Sequence[int], tree: Tree, count: int
) -> list[tuple[int, int]] | None:
    """Each on a node of its own while there are some, beside the workers sooner than elsewhere."""
    serving = set(gang.inference)
    replicas = Counter(node for bundle, node in placed.items() if bundle in serving)
    touched = set(placed.values())
    turns = _turns(held, tree)
    order = sorted(turns, key=lambda node: (node not in touched, turns[node], held[node], node))
    rounds: list[list[int]] = [[] for _ in range(1 + max(replicas.values(), default=0))]
    for node in order:
        rounds[replicas[node]].append(node)
    return spread(rounds, held, count)


def _turns(held: Sequence[int], tree: Tree) -> dict[int, int]:
    """For each node that holds something, how many come before it in its farthest domain."""
    found: dict[int, int] = {}
    seen: Counter[int] = Counter()
    for node in sorted((n for n, room in enumerate(held) if room), key=lambda n: (held[n], n)):
        domain = node
        for level in range(len(tree.keys)):
            domain = tree.above[level][domain]
        found[node] = seen[domain] if tree.keys else 0
        seen[domain] += 1
    return found
