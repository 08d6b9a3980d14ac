"""Which gang is worth asking for on these nodes, and where would it lie?

Joins what a plan needs (``gang``) and on which mesh (``plan.mesh_choice``) with what nodes offer
(``preflight``) and where bundles go (``assign``). Knows nothing of how bundles are reserved, nor
of other runs that want the nodes (``queue``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator.coordinator.assign import assign_in
from orchestrator.coordinator.assignment import Assignment, verify
from orchestrator.coordinator.gang import Bundle, Gang, asks_for_labels, gang, worker_need
from orchestrator.coordinator.node import Free, Node, left_out, usable
from orchestrator.coordinator.preflight import fits, missing_in, preflight, smaller_gangs
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.shortfall import Shortfall, Shortfalls
from orchestrator.coordinator.topology import tree_of
from orchestrator.errors import InfeasibleError
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.mesh_choice import choose_mesh, keeps_groups_whole
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers, mesh_for
from orchestrator.plan.wording import choice

__all__ = [
    "Assignment",
    "Bundle",
    "Chosen",
    "Gang",
    "Node",
    "Option",
    "Shortfall",
    "Shortfalls",
    "choose_gang",
    "gang",
    "largest_fit",
    "options_of",
    "preflight",
    "verify",
]


@dataclass(frozen=True)
class Chosen:
    """A gang worth asking for, and why its mesh is this one; no reason for replicas alone.

    ``assignment`` says where it would lie on what is free; ``None`` where it must wait for that.
    """

    gang: Gang
    reason: str = ""
    assignment: Assignment | None = None


@dataclass(frozen=True)
class Option:
    """One way to carry a plan out: so many workers, the gang that they need, and their mesh."""

    workers: int
    gang: Gang
    mesh: Mesh | None = None


def options_of(
    plan: Plan, workers: Sequence[int], nodes: Sequence[Node] = ()
) -> tuple[Option, ...]:
    """The ways to carry ``plan`` out with one of ``workers``, largest first; ``()``: replicas
    alone.

    Where axes ask for different labels there are two ways for each count: with bundles that serve
    several axes (if one of ``nodes`` has the labels), and with bundles of their own.
    """
    found: list[Option] = []
    for count in sorted(workers, reverse=True) or [0]:
        mesh = mesh_for(plan, count) if count else None
        for apart in (False, True) if asks_for_labels(plan) else (False,):
            wanted = gang(plan, count, nodes=nodes, apart=apart)
            if not apart or wanted != found[-1].gang:
                found.append(Option(count, wanted, mesh))
    return tuple(found)


def choose_gang(
    plan: Plan,
    nodes: Sequence[Node],
    workers: Sequence[int],
    before: int | None = None,
    *,
    excluded: Collection[str] = (),
    free: Free | None = None,
) -> Chosen:
    """The gang of the best of ``workers`` that fits the nodes; ``()``: replicas alone.

    The best is the largest whose tensor·pipeline groups can each lie inside one node, or where
    there is none the largest (``plan.mesh_choice``). ``before`` is the number of workers of the
    last attempt, for the reason to compare with. Nodes that are ``excluded`` (suspect, draining,
    given up) count as gone; ``free`` is what nobody holds of each node, and without it nodes count
    as empty. Where none surely fits, but the smallest is not provably impossible on empty nodes
    either, the smallest is worth waiting for until the gang's deadline. Raises
    ``InfeasibleError`` naming what is missing, the arithmetic and the nearest plan values that
    fit, when even that cannot be; also where ``coordination.gang.placement`` is ``strict`` and its
    groups would lie apart.
    """
    seen = usable(nodes, excluded)
    options = options_of(plan, workers, seen)
    now, empty = Rooms(seen, free), Rooms(seen)
    placed, _ = _placed(plan, options, now)
    if placed:
        return _choose(plan, now, placed, before)
    said = _missing(plan, options, empty) or _refused(plan, options, empty)
    if said:
        apart = left_out(nodes, excluded)
        lines = [*_what_for(plan, options), *said, *([apart] if apart else [])]
        raise InfeasibleError("\n".join(lines))
    return Chosen(options[-1].gang)


def largest_fit(plan: Plan, nodes: Sequence[Node]) -> int | None:
    """K: the largest legal worker count whose gang fits the nodes; ``None`` if none does."""
    counts = reversed(legal_workers(plan))
    return next((count for count in counts if fits(gang(plan, count, nodes=nodes), nodes)), None)


def _placed(
    plan: Plan, options: Sequence[Option], rooms: Rooms
) -> tuple[dict[int, Assignment], tuple[str, ...]]:
    """Where the options would lie, by their workers, largest first, down to one whose groups can
    lie inside nodes; and why ``strict`` refuses the last that it refuses."""
    found: dict[int, Assignment] = {}
    refused: tuple[str, ...] = ()
    asked, slots = plan.coordination.gang, _slots(plan, rooms)
    tree = tree_of(rooms.nodes, asked.topology)
    for option in options:
        if option.workers in found:
            continue
        place = assign_in(option.gang, option.mesh, rooms, tree, asked.placement)
        if isinstance(place, Shortfalls):
            refused = place.reasons or refused
            continue
        found[option.workers] = place
        if option.mesh is None or keeps_groups_whole(option.mesh, slots):
            break
    return found, refused


def _missing(plan: Plan, options: Sequence[Option], rooms: Rooms) -> list[str]:
    """What each way to carry out the fewest workers provably lacks, said of the first of them."""
    fewest = options[-1].workers
    lacking = [
        missing_in(option.gang, rooms, smaller_gangs(plan, fewest, rooms.nodes))
        for option in options
        if option.workers == fewest
    ]
    return [shortfall.render() for shortfall in lacking[0]] if all(lacking) else []


def _refused(plan: Plan, options: Sequence[Option], rooms: Rooms) -> tuple[str, ...]:
    """Why ``strict`` refuses all of them; empty if it does not, even on empty nodes."""
    placed, refused = _placed(plan, options, rooms)
    return () if placed else refused


def _choose(plan: Plan, rooms: Rooms, placed: dict[int, Assignment], before: int | None) -> Chosen:
    if 0 in placed:
        return Chosen(placed[0].gang, assignment=placed[0])
    # A gang that fits has room for its workers on these nodes, so that none of them is refused.
    choice = choose_mesh(plan, _slots(plan, rooms), list(placed), before)
    place = placed[choice.workers]
    return Chosen(place.gang, choice.reason, place)


def _slots(plan: Plan, rooms: Rooms) -> list[int]:
    """How many workers each node that holds any could hold."""
    return [room for room in rooms.capacity(worker_need(plan)) if room]


def _what_for(plan: Plan, options: Sequence[Option]) -> list[str]:
    """The smallest mesh that would do, for a plan that has more than one."""
    counts = sorted({option.workers for option in options})
    if len(counts) < 2:
        return []
    legal = choice([str(count) for count in counts])
    return [
        f"no mesh of this plan fits: the smallest is {mesh_for(plan, counts[0])}, on {counts[0]} "
        f"workers, of {legal} that are legal"
    ]
