"""Can this gang ever be placed on these nodes, and if not, what would fit?

Compares bundles with what live nodes offer, per resource and per label; refuses only what is
provably impossible, so that a refusal is never wrong. Does not know who holds the resources at the
moment: pass the nodes' totals to ask "ever?", what is free on them to ask "now?".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.coordinator.first_fit import first_fit
from orchestrator.coordinator.gang import Bundle, Gang, gang
from orchestrator.coordinator.needs import TICKS, Need, capacity, covers, need_of
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.shortfall import (
    Shortfall,
    format_amount,
    format_bundle,
    format_demand,
)
from orchestrator.plan.plan import Plan
from orchestrator.plan.selectors import Selector, format_selector
from orchestrator.plan.sizes import fixed_between

__all__ = [
    "Node",
    "Shortfall",
    "fits",
    "fits_in",
    "format_amount",
    "format_bundle",
    "missing_in",
    "preflight",
    "rooms_for",
    "smaller_gangs",
]


def preflight(
    wanted: Gang,
    nodes: Sequence[Node],
    smaller: Iterable[tuple[str, Gang]] = (),
) -> tuple[Shortfall, ...]:
    """What is missing for ``wanted``; empty when nothing is provably missing.

    ``smaller`` yields plan values and their gangs, the preferred first (``smaller_gangs``);
    the first that fits is named. It is only drawn from when something is missing.
    """
    return missing_in(wanted, Rooms(nodes), smaller)


def missing_in(
    wanted: Gang, rooms: Rooms, smaller: Iterable[tuple[str, Gang]] = ()
) -> tuple[Shortfall, ...]:
    """``preflight`` on what is left in ``rooms``."""
    found = _missing_in_sum(wanted, rooms) or _missing_room(wanted, rooms)
    if not found:
        return ()
    works = next((text for text, other in smaller if fits_in(other, rooms)), "")
    return tuple(replace(each, works=works) for each in found)


def fits(wanted: Gang, nodes: Sequence[Node]) -> bool:
    """Whether first-fit-decreasing finds a node for every bundle. ``True`` is certain."""
    return fits_in(wanted, Rooms(nodes))


def fits_in(wanted: Gang, rooms: Rooms) -> bool:
    """``fits`` on what is left in ``rooms``."""
    return first_fit(wanted.counts, rooms) is not None


def rooms_for(bundle: Bundle, nodes: Sequence[Node], selector: Selector | None = None) -> list[int]:
    """How many such bundles each live node could hold if it held nothing else."""
    return list(Rooms(nodes).capacity(need_of(bundle, selector)))


def smaller_gangs(
    plan: Plan, workers: int, nodes: Sequence[Node] = ()
) -> Iterator[tuple[str, Gang]]:
    """Plan values that need less than ``workers`` workers do, the nearest first.

    First fewer workers alone, by every legal count below; then all axes capped together.
    """
    counts = fixed_between(plan, 1, workers - 1)[::-1] if workers > 1 else ()
    for count in counts:
        yield f"training.workers={count}", gang(plan, count, nodes=nodes)
    replicas = plan.inference.replicas.min if plan.inference else 0
    for cap in range(max(workers, plan.data.tasks, replicas) - 1, 0, -1):
        count = next((each for each in counts if each <= cap), workers)
        copies = min(replicas, cap)
        for tasks in dict.fromkeys((plan.data.tasks, min(plan.data.tasks, cap))):
            changed = [f"training.workers={count}"] * (count != workers)
            changed += [f"data.tasks={tasks}"] * (tasks != plan.data.tasks and workers > 0)
            changed += [f"inference.replicas={copies}"] * (copies != replicas)
            if changed:
                other = gang(plan, count, tasks=tasks, replicas=copies, nodes=nodes)
                yield " ".join(changed), other


@dataclass(frozen=True)
class _Scope:
    """The nodes that one selector means, and the bundles that can go nowhere else."""

    selector: tuple[tuple[str, str], ...]
    nodes: frozenset[int]
    counts: Mapping[Need, int]

    def shortfall(self, resource: str, needed: float, offered: float) -> Shortfall:
        """Too little of one resource, for all bundles of the scope."""
        labels = format_selector(dict(self.selector))
        demand = format_demand(self.counts)
        return Shortfall(resource, demand, needed, offered, len(self.nodes), labels=labels)


def _scopes(wanted: Gang, rooms: Rooms) -> list[_Scope]:
    """One for each selector of the gang and one for all nodes, the narrowest first."""
    meant = {
        selector: frozenset(i for i, ok in enumerate(rooms.selected(selector)) if ok)
        for selector in {need.selector for need in wanted.counts} | {()}
    }
    found = []
    for selector, nodes in meant.items():
        inside = {n: count for n, count in wanted.counts.items() if meant[n.selector] <= nodes}
        found.append(_Scope(selector, nodes, inside))
    return sorted(found, key=lambda scope: (len(scope.nodes), -len(scope.selector), scope.selector))


def _missing_in_sum(wanted: Gang, rooms: Rooms) -> list[Shortfall]:
    found: list[tuple[_Scope, Shortfall]] = []
    for scope in _scopes(wanted, rooms):
        needed: dict[str, int] = {}
        for need, count in scope.counts.items():
            for name, amount in need.shape:
                needed[name] = needed.get(name, 0) + count * amount
        for name, amount in sorted(needed.items()):
            offered = sum(rooms.amounts(node).get(name, 0) for node in scope.nodes)
            if amount > offered:
                short = scope.shortfall(name, amount / TICKS, offered / TICKS)
                found += [(scope, short)] if not _said(found, scope, short) else []
    return [short for _, short in found]


def _said(found: Sequence[tuple[_Scope, Shortfall]], scope: _Scope, short: Shortfall) -> bool:
    """Whether nodes within the scope are short of as much in all: it is so for that reason."""
    inside = (said for inner, said in found if inner.nodes <= scope.nodes)
    return sum(said.short for said in inside if said.resource == short.resource) >= short.short


def _missing_room(wanted: Gang, rooms: Rooms) -> list[Shortfall]:
    """Bundles of one shape, and all that are at least as large and may go nowhere else, need as
    many rooms of that shape: fewer rooms than bundles is proof."""
    scopes = {scope.selector: scope for scope in _scopes(wanted, rooms)}
    found = []
    for need in wanted.counts:
        scope = scopes[need.selector]
        larger = (n for n in scope.counts if covers(n.shape, need.shape))
        needed = sum(scope.counts[n] for n in larger)
        held = sum(capacity(need.shape, rooms.amounts(node)) for node in scope.nodes)
        if needed > held and need.shape:
            alike = replace(scope, counts={need: needed})
            lacking = alike.shortfall(need.shape[0][0], needed, held)
            found.append(replace(lacking, fragmented=True))
    return found
