"""Which gang is worth asking for on these nodes?

Joins what a plan needs (``gang``) with what nodes offer (``preflight``). Knows nothing of
how bundles are reserved, nor of other runs that want the same nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.coordinator.gang import Bundle, Gang, gang
from orchestrator.coordinator.preflight import Node, Shortfall, fits, preflight, smaller_gangs
from orchestrator.errors import InfeasibleError
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers

__all__ = ["Bundle", "Gang", "Node", "Shortfall", "choose_gang", "gang", "largest_fit", "preflight"]


def choose_gang(plan: Plan, nodes: Sequence[Node], workers: Sequence[int]) -> Gang:
    """The gang of the largest of ``workers`` that fits the nodes; ``()``: replicas alone.

    Where none surely fits, but the smallest is not provably impossible either, the smallest
    is worth waiting for until the gang's deadline. Raises ``InfeasibleError`` naming what is
    missing, the arithmetic and the nearest plan values that fit, when even that cannot be.
    """
    counts = sorted(workers, reverse=True) or [0]
    for count in counts:
        candidate = gang(plan, count)
        if fits(candidate, nodes):
            return candidate
    smallest = gang(plan, counts[-1])
    shortfalls = preflight(smallest, nodes, smaller_gangs(plan, counts[-1]))
    if shortfalls:
        raise InfeasibleError("\n".join(shortfall.render() for shortfall in shortfalls))
    return smallest


def largest_fit(plan: Plan, nodes: Sequence[Node]) -> int | None:
    """K: the largest legal worker count whose gang fits the nodes; ``None`` if none does."""
    counts = reversed(legal_workers(plan))
    return next((count for count in counts if fits(gang(plan, count), nodes)), None)
