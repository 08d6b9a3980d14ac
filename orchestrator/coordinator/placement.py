"""Which gang is worth asking for on these nodes?

Joins what a plan needs (``gang``) and on which mesh (``plan.mesh_choice``) with what nodes offer
(``preflight``). Knows nothing of how bundles are reserved, nor of other runs that want the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.coordinator.gang import Bundle, Gang, gang, worker_bundle
from orchestrator.coordinator.preflight import (
    Node,
    Shortfall,
    fits,
    preflight,
    rooms_for,
    smaller_gangs,
)
from orchestrator.errors import InfeasibleError
from orchestrator.plan.mesh_choice import choose_mesh, keeps_groups_whole
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers, mesh_for
from orchestrator.plan.wording import choice

__all__ = [
    "Bundle",
    "Chosen",
    "Gang",
    "Node",
    "Shortfall",
    "choose_gang",
    "gang",
    "largest_fit",
    "preflight",
]


@dataclass(frozen=True)
class Chosen:
    """A gang worth asking for, and why its mesh is this one; no reason for replicas alone."""

    gang: Gang
    reason: str = ""


def choose_gang(
    plan: Plan, nodes: Sequence[Node], workers: Sequence[int], before: int | None = None
) -> Chosen:
    """The gang of the best of ``workers`` that fits the nodes; ``()``: replicas alone.

    The best is the largest whose tensor·pipeline groups can each lie inside one node, or where
    there is none the largest (``plan.mesh_choice``). ``before`` is the number of workers of the
    last attempt, for the reason to compare with. Where none surely fits, but the smallest is not
    provably impossible either, the smallest is worth waiting for until the gang's deadline. Raises
    ``InfeasibleError`` naming what is missing, the arithmetic and the nearest plan values that
    fit, when even that cannot be.
    """
    counts = sorted(workers, reverse=True) or [0]
    fitting = _fitting(plan, nodes, counts)
    if fitting:
        return _choose(plan, nodes, fitting, before)
    smallest = gang(plan, counts[-1])
    shortfalls = preflight(smallest, nodes, smaller_gangs(plan, counts[-1]))
    if shortfalls:
        missing = [shortfall.render() for shortfall in shortfalls]
        raise InfeasibleError("\n".join([*_what_for(plan, counts), *missing]))
    return Chosen(smallest)


def largest_fit(plan: Plan, nodes: Sequence[Node]) -> int | None:
    """K: the largest legal worker count whose gang fits the nodes; ``None`` if none does."""
    counts = reversed(legal_workers(plan))
    return next((count for count in counts if fits(gang(plan, count), nodes)), None)


def _fitting(plan: Plan, nodes: Sequence[Node], counts: Sequence[int]) -> list[int]:
    """The counts that fit, largest first, down to one whose groups can lie inside nodes."""
    found, slots = [], _slots(plan, nodes)
    for count in counts:
        if not fits(gang(plan, count), nodes):
            continue
        found.append(count)
        if count == 0 or keeps_groups_whole(mesh_for(plan, count), slots):
            break
    return found


def _choose(
    plan: Plan, nodes: Sequence[Node], fitting: Sequence[int], before: int | None
) -> Chosen:
    if fitting[0] == 0:
        return Chosen(gang(plan, 0))
    # A gang that fits has room for its workers on these nodes, so that none of them is refused.
    choice = choose_mesh(plan, _slots(plan, nodes), fitting, before)
    return Chosen(gang(plan, choice.workers), choice.reason)


def _slots(plan: Plan, nodes: Sequence[Node]) -> list[int]:
    """How many workers each node that holds any could hold."""
    return [room for room in rooms_for(worker_bundle(plan), nodes) if room]


def _what_for(plan: Plan, counts: Sequence[int]) -> list[str]:
    """The smallest mesh that would do, for a plan that has more than one."""
    if len(counts) < 2:
        return []
    smallest, legal = counts[-1], choice([str(count) for count in reversed(counts)])
    return [
        f"no mesh of this plan fits: the smallest is {mesh_for(plan, smallest)}, on {smallest} "
        f"workers, of {legal} that are legal"
    ]
