"""Has a run used up what it may, and what would it take to go on?

Pure arithmetic on the ledger. Does not know when to ask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from orchestrator.coordinator.events import BudgetSpent
from orchestrator.coordinator.state import RunState

_DEFAULT_FACTOR = 2.0
_LEAST_FACTOR = 1.1


@dataclass(frozen=True, kw_only=True)
class Spending:
    """``used`` of a ``limit``: hours of wall time, or cost in the currency of the plan's price."""

    what: Literal["hours", "cost"]
    used: float
    limit: float


def over_budget(state: RunState, since_seconds: float = 0.0) -> Spending | None:
    """The budget that is used up, ``since_seconds`` after the last event; ``None`` while there is
    some left. Time in which no driver was alive does not count, nor does that of an ended run.
    """
    policy = state.policy
    if policy is None or state.phase in ("new", "ending", "ended"):
        return None
    passed = max(0.0, since_seconds)
    hours = (state.ledger.wall_seconds + passed) / 3600.0
    if policy.budget_hours is not None and hours >= policy.budget_hours:
        return Spending(what="hours", used=hours, limit=policy.budget_hours)
    if policy.budget_cost is None or policy.price_per_hour is None:
        return None
    cost = state.ledger.cost(policy.price_per_hour)
    cost += state.workers * passed / 3600.0 * policy.price_per_hour
    if cost >= policy.budget_cost:
        return Spending(what="cost", used=cost, limit=policy.budget_cost)
    return None


def limit_of(state: RunState, what: Literal["hours", "cost"]) -> float | None:
    """The run's budget; ``None`` where it has none."""
    if state.policy is None:
        return None
    return state.policy.budget_hours if what == "hours" else state.policy.budget_cost


def words(state: RunState, spent: BudgetSpent) -> str:
    """What is spent, how it comes to that, and what would go on."""
    field = f"coordination.budget.{spent.what}"
    return (
        f"the budget is spent: {spent.used:.6g} of {field}={spent.limit:g} "
        f"({_arithmetic(state, spent)}); the same command goes on with "
        f"{field}={enough(state, spent):g}"
    )


def _arithmetic(state: RunState, spent: BudgetSpent) -> str:
    if spent.what == "hours":
        return f"wall time over {_attempts(state)}"
    price = state.policy.price_per_hour if state.policy else None
    hours = state.ledger.worker_seconds / 3600.0
    return f"{hours:.4g} worker-hours over {_attempts(state)} at {price or 0:g} each"


def _attempts(state: RunState) -> str:
    return "1 attempt" if state.attempt == 1 else f"{state.attempt} attempts"


def enough(state: RunState, spent: BudgetSpent) -> float:
    """A limit that lets the rest be trained at the price of what is committed, rounded up to two
    digits; twice the limit where nothing tells."""
    done = state.committed_step
    if done and not state.trained:
        needed = max(spent.used * state.steps / done, spent.used * _LEAST_FACTOR)
    else:
        needed = max(spent.limit, spent.used) * _DEFAULT_FACTOR
    return _rounded_up(needed)


def _rounded_up(value: float) -> float:
    if not 0 < value < math.inf:
        return value
    digits = 1 - math.floor(math.log10(value))
    return round(math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits, max(0, digits))
