"""How do units that belong together go onto a tree of nodes, near one another and in few domains?

Counts and indexes alone. A unit is whatever takes equal room (a seat for a worker, room for a
tensor group); a member is so many units that want to lie near one another. Does not know what
units are.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.coordinator.topology import Tree

Member = tuple[int, ...]
"""The node of each unit of a member, neighbours beside one another."""


def choose(tree: Tree, level: int, capacity: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Which domains of ``level`` take how many of ``count``, in tree order.

    Touches as few domains as it can: on each level, from the root down, the smallest domain that
    holds all that is left, or else the largest, whole, and then the same for what remains.
    ``capacity`` must hold ``count`` in all.
    """
    totals = tree.sums(capacity, level)
    return _descend(tree, (tree.height, 0), level, totals, count)


def nest(
    tree: Tree, room: list[int], parts: int, count: int, first_level: int = 0
) -> tuple[list[Member], int]:
    """Place up to ``count`` members of ``parts`` units each; returns them, and how many are left.

    As many as possible lie within one domain of ``first_level``, of the others as many as
    possible within one of the next level, and so on. ``room`` holds units per node, and loses what
    is taken.
    """
    placed: list[Member] = []
    for level in range(first_level, tree.height + 1):
        if count == 0:
            break
        totals = tree.sums(room, 0) if level else [room]
        held = [units // parts for units in totals[level]] if parts > 1 else list(totals[level])
        fitting = min(count, sum(held))
        for domain, members in choose(tree, level, held, fitting) if fitting else ():
            units: list[int] = []
            for node, share in _descend(tree, (level, domain), 0, totals, members * parts):
                room[node] -= share
                units += [node] * share
            placed += [tuple(units[i : i + parts]) for i in range(0, len(units), parts)]
        count -= fitting
    return placed, count


def spread(
    rounds: Sequence[Sequence[int]], capacity: Sequence[int], count: int
) -> list[tuple[int, int]] | None:
    """Which nodes take how many of ``count``, one each in turn; ``None`` where they hold fewer.

    ``rounds[k]`` are nodes in the order in which they are asked from turn *k* on.
    """
    ring: list[int] = []
    taken: dict[int, int] = {}
    turn = 0
    while count:
        ring += rounds[turn] if turn < len(rounds) else ()
        ring = [node for node in ring if taken.get(node, 0) < capacity[node]]
        if not ring and turn >= len(rounds):
            return None
        for node in ring[:count]:
            taken[node] = taken.get(node, 0) + 1
        count -= min(count, len(ring))
        turn += 1
    return sorted(taken.items())


def _descend(
    tree: Tree, start: tuple[int, int], level: int, totals: Sequence[Sequence[int]], count: int
) -> list[tuple[int, int]]:
    """``choose`` below one domain, given as its level and index. ``totals`` are the capacities of
    all domains, level by level, and begin at ``level``."""
    upper, domain = start
    taken = {domain: count} if count else {}
    for lower in range(upper - 1, level - 1, -1):
        amounts = totals[lower - level]
        taken = {
            child: share
            for parent, wanted in taken.items()
            for child, share in _fill(tree.below[lower + 1][parent], amounts, wanted)
        }
    if level == 0:
        return sorted(taken.items(), key=lambda entry: tree.order[entry[0]])
    return sorted(taken.items())


def _fill(domains: Sequence[int], amounts: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Which of ``domains`` take how many of ``wanted``: few domains, and the last a tight one."""
    largest = sorted((domain for domain in domains if amounts[domain]), key=lambda d: -amounts[d])
    found: list[tuple[int, int]] = []
    for index, domain in enumerate(largest):
        if amounts[domain] >= wanted:
            enough = (each for each in largest[index:] if amounts[each] >= wanted)
            return [*found, (min(enough, key=lambda d: amounts[d]), wanted)]
        found.append((domain, amounts[domain]))
        wanted -= amounts[domain]
    raise ValueError(f"{wanted} more are wanted than the domains hold")
