"""Hours and money: when they are spent, and what would be enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.budget import Spending, enough, over_budget, words
from orchestrator.coordinator.events import BudgetSpent
from orchestrator.coordinator.ledger import Ledger
from orchestrator.coordinator.state import CheckpointRecord, RunState
from tests.coordinator.story import PLAN

pytestmark = pytest.mark.unit

HELD = RunState(
    name="gpt",
    phase="training",
    attempt=2,
    policy=PLAN,
    workers=4,
    ledger=Ledger(useful_seconds=3000.0, lost_seconds=500.0, worker_seconds=7200.0),
)


def at(state: RunState, **changes: float | None) -> RunState:
    assert state.policy is not None
    return replace(state, policy=replace(state.policy, **changes))  # type: ignore[arg-type]


def done(state: RunState, step: int) -> RunState:
    record = CheckpointRecord(step=step, attempt=1, folder="f")
    return replace(state, committed=(record,))


def spent(what: str, used: float, limit: float) -> BudgetSpent:
    return BudgetSpent(attempt=2, at_seconds=0.0, what=what, used=used, limit=limit)  # type: ignore[arg-type]


def test_without_a_budget_nothing_is_ever_spent() -> None:
    assert over_budget(HELD, 1e9) is None
    assert over_budget(at(HELD, budget_cost=0.01), 1e9) is None  # no price, no cost
    assert over_budget(RunState(), 1e9) is None


def test_hours_are_those_of_all_attempts_and_of_right_now() -> None:
    state = at(HELD, budget_hours=1.0)
    assert over_budget(state) is None
    assert over_budget(state, 99.0) is None
    assert over_budget(state, 100.0) == Spending(what="hours", used=1.0, limit=1.0)
    assert over_budget(state, -50.0) is None  # a clock that jumped back


def test_cost_grows_with_the_workers_that_are_held_now() -> None:
    state = at(HELD, budget_cost=6.0, price_per_hour=2.0)  # 4.0 by now, 8.0 each hour
    assert over_budget(state, 899.0) is None
    assert over_budget(state, 900.0) == Spending(what="cost", used=6.0, limit=6.0)
    assert over_budget(replace(state, workers=0), 1e6) is None


@pytest.mark.parametrize("phase", ["ending", "ended"])
def test_a_run_that_ends_spends_nothing_more(phase: str) -> None:
    state = replace(at(HELD, budget_hours=0.1), phase=phase)  # type: ignore[arg-type]
    assert over_budget(state, 1e6) is None


def test_words_show_the_arithmetic_and_what_would_go_on() -> None:
    state = done(at(HELD, budget_cost=4.0, price_per_hour=2.0), 50)
    assert words(state, spent("cost", 4.0, 4.0)) == (
        "the budget is spent: 4 of coordination.budget.cost=4 (2 worker-hours over 2 attempts at 2 "
        "each); the same command goes on with coordination.budget.cost=16"
    )
    state = at(HELD, budget_hours=0.97)
    assert words(state, spent("hours", 0.9722, 0.97)) == (
        "the budget is spent: 0.9722 of coordination.budget.hours=0.97 (wall time over 2 "
        "attempts); the same command goes on with coordination.budget.hours=2"
    )


@given(st.floats(1e-6, 1e6), st.floats(0.01, 1.0), st.integers(0, 200))
def test_what_is_said_to_be_enough_lets_the_run_go_on(used: float, share: float, step: int) -> None:
    state = done(HELD, step) if step else HELD
    limit = enough(state, spent("hours", used, used * share))
    assert limit > used
    if 0 < step < 200:
        assert limit >= used * 200 / step * (1 - 1e-9)
        assert limit <= max(used * 200 / step, used * 1.1) * 1.11
