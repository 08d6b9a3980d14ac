"""How many bundles of a kind does each node still hold, while a decision is being made?

A scratchpad that lives as long as one decision. Nodes come in few kinds (equal amounts left), so
what a kind holds is worked out once; a node that changes is looked at again only by those who
ask. Does not know why something is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from orchestrator.coordinator.needs import Need, Shape, capacity, ticks
from orchestrator.coordinator.node import Free, Node, usable
from orchestrator.plan.selectors import matches

Amounts = Mapping[str, int]


class Rooms:
    """What is left on each node, in ticks. Nodes are meant by their index, in order of their id.

    ``free`` is what nobody holds (a node that it does not name has nothing); without it the nodes
    count as empty. A copy shares what is known of kinds, and may be changed on its own.
    """

    def __init__(
        self, nodes: Sequence[Node], free: Free | None = None, excluded: Collection[str] = ()
    ) -> None:
        self.nodes = tuple(sorted(usable(nodes, excluded), key=lambda node: node.id))
        self.names = tuple(node.id for node in self.nodes)
        self.index = {name: index for index, name in enumerate(self.names)}
        self._kinds = _Kinds()
        self._selected: dict[tuple[tuple[str, str], ...], list[bool]] = {}
        self._kind = [
            self._kinds.of(node.resources if free is None else free.get(node.id, {}))
            for node in self.nodes
        ]
        self._known: dict[Need, tuple[int, list[int]]] = {}
        self._changes: list[int] = []

    @property
    def num_changes(self) -> int:
        """How often something was taken or given back."""
        return len(self._changes)

    def copy(self) -> Rooms:
        """The same rooms, to be changed apart."""
        other = object.__new__(Rooms)
        other.nodes, other.names, other.index = self.nodes, self.names, self.index
        other._kinds, other._selected = self._kinds, self._selected
        other._kind, other._changes = list(self._kind), list(self._changes)
        other._known = dict(self._known)
        return other

    def without(self, excluded: Collection[str]) -> Rooms:
        """A copy in which these nodes have nothing left."""
        other = self.copy()
        for name in excluded:
            if name in self.index:
                other._kind[self.index[name]] = 0
                other._changes.append(self.index[name])
        return other

    def only(self, kept: Collection[int]) -> Rooms:
        """A copy in which all nodes but these have nothing left."""
        other = self.copy()
        other._kind = [0] * len(self._kind)
        for node in kept:
            other._kind[node] = self._kind[node]
        other._known, other._changes = {}, []
        return other

    def capacity(self, need: Need) -> Sequence[int]:
        """How many such bundles each node holds; not to be changed by who asks."""
        seen, found = self._known.get(need, (-1, []))
        if seen < 0:
            found = self._kinds.capacities(need.shape, self._kind)
            if need.selector:
                meant = self.selected(need.selector)
                found = [room if ok else 0 for room, ok in zip(found, meant, strict=True)]
        elif seen < len(self._changes):
            found = self._again(need, found, set(self._changes[seen:]))
        self._known[need] = (len(self._changes), found)
        return found

    def selected(self, selector: tuple[tuple[str, str], ...]) -> Sequence[bool]:
        """Which nodes have the labels."""
        known = self._selected.get(selector)
        if known is None:
            named = dict(selector)
            known = [matches(named, node.labels) for node in self.nodes]
            self._selected[selector] = known
        return known

    def amounts(self, node: int) -> Amounts:
        """What is left on a node, in ticks."""
        return self._kinds.amounts[self._kind[node]]

    def take(self, node: int, shape: Shape, count: int = 1) -> None:
        """``count`` bundles of a shape go to a node; negative: come back from it."""
        self._kind[node] = self._kinds.less(self._kind[node], shape, count)
        self._changes.append(node)

    def take_all(self, placed: Iterable[tuple[str, Shape]], sign: int = 1) -> None:
        """Bundles go to nodes by id, or with ``sign=-1`` come back; those that are gone do not."""
        for (name, shape), count in _counted(placed).items():
            if name in self.index:
                self.take(self.index[name], shape, sign * count)

    def set_aside(self, placed: Iterable[tuple[str, Shape]]) -> None:
        """Take of what these bundles need as much as is left."""
        wanted: dict[int, dict[str, int]] = {}
        for (name, shape), count in _counted(placed).items():
            if name in self.index:
                amounts = wanted.setdefault(self.index[name], {})
                for resource, amount in shape:
                    amounts[resource] = amounts.get(resource, 0) + count * amount
        for node, amounts in wanted.items():
            left = self.amounts(node)
            there = ((name, min(amount, left.get(name, 0))) for name, amount in amounts.items())
            self.take(node, tuple((name, amount) for name, amount in there if amount > 0))

    def hold(self, placed: Collection[tuple[str, Shape]]) -> bool:
        """Whether all these bundles have room on their nodes."""
        after = self.copy()
        after.take_all(placed)
        return all(
            name in self.index and min(after.amounts(self.index[name]).values(), default=0) >= 0
            for name, _ in placed
        )

    def _again(self, need: Need, known: list[int], changed: set[int]) -> list[int]:
        found = known.copy()  # copies of these rooms share what was known
        meant = self.selected(need.selector) if need.selector else None
        for node in changed:
            if meant is None or meant[node]:
                found[node] = self._kinds.capacity(need.shape, self._kind[node])
        return found


def _counted(placed: Iterable[tuple[str, Shape]]) -> Mapping[tuple[str, Shape], int]:
    counts: dict[tuple[str, Shape], int] = {}
    for entry in placed:
        counts[entry] = counts.get(entry, 0) + 1
    return counts


class _Kinds:
    """Equal amounts get one number, and what that number holds is worked out once. 0: nothing."""

    def __init__(self) -> None:
        self.amounts: list[Amounts] = [{}]
        self._number: dict[tuple[tuple[str, int], ...], int] = {(): 0}
        self._held: dict[Shape, dict[int, int]] = {}
        self._less: dict[tuple[int, Shape, int], int] = {}

    def of(self, resources: Mapping[str, float]) -> int:
        return self._intern({name: ticks(amount) for name, amount in resources.items()})

    def less(self, kind: int, shape: Shape, count: int) -> int:
        key = (kind, shape, count)
        known = self._less.get(key)
        if known is None:
            left = dict(self.amounts[kind])
            for name, amount in shape:
                left[name] = left.get(name, 0) - count * amount
            known = self._less[key] = self._intern(left)
        return known

    def capacity(self, shape: Shape, kind: int) -> int:
        held = self._held.setdefault(shape, {})
        if kind not in held:
            held[kind] = capacity(shape, self.amounts[kind])
        return held[kind]

    def capacities(self, shape: Shape, kinds: Sequence[int]) -> list[int]:
        for kind in set(kinds):
            self.capacity(shape, kind)
        held = self._held.get(shape, {})
        return [held[kind] for kind in kinds]

    def _intern(self, amounts: dict[str, int]) -> int:
        key = tuple(sorted(item for item in amounts.items() if item[1]))
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self.amounts)
            self.amounts.append(dict(key))
        return number
