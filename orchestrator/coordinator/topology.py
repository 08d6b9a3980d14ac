"""Which nodes lie near one another?

Nodes are the leaves of a tree whose levels are node labels, from the nearest neighbourhood (an
NVLink domain, say) to the farthest (a rack), with the whole cluster at its root. A domain is
known by its own label and those above it, so that equal names in two racks are two domains; a
node without a label is, on that level, in a domain of its own. Knows nothing of what nodes hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from orchestrator.coordinator.node import Node

_Path = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Tree:
    """Domains by level: 0 are the nodes, ``height`` is the level of the one root.

    A domain is meant by its index on its level. ``above[level][domain]`` is the domain that it
    lies in, ``below[level][domain]`` are those that lie in it, in order. ``order[node]`` puts
    nodes beside their neighbours, ``ordered`` are the nodes in that order. ``keys`` are the labels
    of levels 1 and up.
    """

    keys: tuple[str, ...]
    above: tuple[tuple[int, ...], ...]
    below: tuple[tuple[tuple[int, ...], ...], ...]
    order: tuple[int, ...]
    ordered: tuple[int, ...]

    @property
    def height(self) -> int:
        """The level of the root."""
        return len(self.keys) + 1

    def sums(self, amounts: Sequence[int], level: int) -> list[list[int]]:
        """An amount per domain of ``level``, and its sums on all levels up to the root; the
        list begins at ``level``."""
        found = [list(amounts)]
        if level == 0:
            amounts = [amounts[node] for node in self.ordered]
        for domains in self.below[level + 1 :]:
            # Domains that lie in one lie side by side: the difference of two running sums.
            running = [0, *accumulate(amounts)]
            ends = [0, *accumulate(map(len, domains))]
            at_ends = [running[end] for end in ends]
            amounts = [after - before for before, after in pairwise(at_ends)]
            found.append(amounts)
        return found

    def level_of(self, nodes: Sequence[int]) -> int:
        """The lowest level on which all of ``nodes`` lie in one domain."""
        domains, level = set(nodes), 0
        while len(domains) > 1:
            domains = {self.above[level][domain] for domain in domains}
            level += 1
        return level

    def touched(self, nodes: Sequence[int]) -> list[tuple[str, int]]:
        """How many domains of each level but the root's hold some of ``nodes``."""
        domains, found = set(nodes), [("node", len(set(nodes)))]
        for level, key in enumerate(self.keys):
            domains = {self.above[level][domain] for domain in domains}
            found.append((key, len(domains)))
        return found


def tree_of(nodes: Sequence[Node], keys: Sequence[str] = ()) -> Tree:
    """The tree of ``nodes`` by the labels ``keys``, the nearest first."""
    paths = [_path(node, keys) for node in nodes]
    ranked = sorted(range(len(nodes)), key=lambda index: paths[index][::-1])
    order = [0] * len(nodes)
    for place, index in enumerate(ranked):
        order[index] = place
    above: list[tuple[int, ...]] = []
    below: list[tuple[tuple[int, ...], ...]] = [((),) * len(nodes)]
    members = [(index, index) for index in ranked]  # a domain of this level, one of its nodes
    for level in range(1, len(keys) + 2):
        numbers: dict[tuple[str, ...], int] = {}
        inside: list[list[int]] = []
        parents = [0] * len(members)
        upper = []
        for domain, node in members:
            number = numbers.setdefault(paths[node][level], len(numbers))
            if number == len(inside):
                inside.append([])
                upper.append((number, node))
            inside[number].append(domain)
            parents[domain] = number
        above.append(tuple(parents))
        below.append(tuple(map(tuple, inside)))
        members = upper
    return Tree(tuple(keys), tuple(above), tuple(below), tuple(order), tuple(ranked))


def _path(node: Node, keys: Sequence[str]) -> _Path:
    """The domain of each level, from the node to the root; nested by construction."""
    found: list[tuple[str, ...]] = [(node.id,)]
    for level, key in enumerate(keys):
        if key in node.labels:
            labels = (node.labels.get(each, "") for each in reversed(keys[level:]))
            found.append((str(level), *labels))
        else:
            found.append(found[-1])
    return (*found, ())
