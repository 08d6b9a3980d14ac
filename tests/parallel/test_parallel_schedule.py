"""Learning rates and checkpoint steps, by hand and by their properties."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.parallel.schedule import learning_rate
from orchestrator.plan.training import Schedule

pytestmark = pytest.mark.unit

schedules = st.builds(
    Schedule,
    decay=st.sampled_from(["cosine", "linear", "none"]),
    warmup=st.integers(0, 50),
    floor=st.floats(0, 1),
)


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        ("cosine", {1: 0.25, 4: 1.0, 7: 0.1 + 0.9 / 2, 10: 0.1}),
        ("linear", {1: 0.25, 4: 1.0, 7: 0.55, 10: 0.1}),
        ("none", {1: 0.25, 4: 1.0, 7: 1.0, 10: 1.0}),
    ],
)
def test_rates_by_hand(
    decay: Literal["cosine", "linear", "none"], values: dict[int, float]
) -> None:
    schedule = Schedule(decay=decay, warmup=4, floor=0.1)
    for step, share in values.items():
        assert learning_rate(schedule, 2.0, step, 10) == pytest.approx(2.0 * share)


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    schedule = Schedule(decay="linear", warmup=0, floor=0.0)
    assert [learning_rate(schedule, 1.0, step, 3) for step in (1, 2, 3)] == [1.0, 0.5, 0.0]
    assert learning_rate(schedule, 1.0, 1, 1) == 1.0


@given(schedules, st.integers(1, 200))
def test_rates_rise_to_the_peak_then_fall_to_the_floor(schedule: Schedule, steps: int) -> None:
    rates = [learning_rate(schedule, 1.0, step, steps) for step in range(1, steps + 1)]
    turn = max(schedule.warmup, 1)
    assert rates[:turn] == sorted(rates[:turn])
    assert rates[turn - 1 :] == sorted(rates[turn - 1 :], reverse=True)
    assert all(0 < rate <= 1 for rate in rates[:-1])
    if steps >= turn:
        assert rates[turn - 1] == pytest.approx(1.0)
    if steps > turn and schedule.decay != "none":
        assert rates[-1] == pytest.approx(schedule.floor)
    if steps < schedule.warmup:
        assert rates[-1] == pytest.approx(steps / schedule.warmup)
