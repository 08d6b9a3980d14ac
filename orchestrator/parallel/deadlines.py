"""How long may workers wait for one another? Pure arithmetic on the plan's own deadlines."""

from __future__ import annotations

from orchestrator.plan.plan import Plan

_GRACE_SECONDS = 60.0


def collective_seconds(plan: Plan) -> float:
    """For an exchange between workers: later than a watchdog would tell which of them hangs, which
    says more than that an exchange timed out."""
    coordination = plan.coordination
    return max(coordination.hang_timeout, coordination.start_timeout) + _GRACE_SECONDS
