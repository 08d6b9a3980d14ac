"""What a run's steps took, read from its metrics."""

from __future__ import annotations

import pytest

from orchestrator.observe.stepping import stepping

pytestmark = pytest.mark.unit


def records(attempt: int, first: int, last: int, workers: int = 2, slow: float = 0.1):
    """Steps of 0.1 s with 10 ms of data, a pause of a second after step 10."""
    found = [{"kind": "started", "num_workers": workers, "attempt": attempt}]
    now = 1000.0 * attempt
    for step in range(first, last + 1):
        seconds = 5.0 if step == first else slow
        now += seconds + (1.0 if step == 11 else 0.0)
        found.append(
            {
                "kind": "step",
                "step": step,
                "attempt": attempt,
                "at_seconds": now,
                "step_seconds": seconds,
                "data_seconds": 0.01,
                "loss": 1.0,
            }
        )
    return found


def test_by_hand():
    told = records(1, 1, 20)
    told.append({"kind": "evaluation", "step": 20, "attempt": 1, "seconds": 2.0, "metrics": {}})
    shares = {"num_steps": 10, "step_seconds": 2.0, "exchange_seconds": 0.1}
    told.append({"kind": "shares", "attempt": 1, **shares, "waiting_seconds": 0.04})
    found = stepping(told)
    assert found is not None
    assert (found.attempt, found.workers, found.num_steps) == (1, 2, 20)
    assert found.step_seconds == pytest.approx(0.1)  # the first one, of 5 s, is not typical
    assert found.pause_seconds == pytest.approx((1.0 + 2.0) / 20)
    assert found.exchange_share == pytest.approx(0.05)
    assert found.waiting_share == pytest.approx(0.02)
    assert found.training_seconds == pytest.approx(5.0 + 19 * 0.1 + 1.0 + 2.0)


def test_the_attempt_with_most_steps_speaks():
    found = stepping([*records(1, 1, 15), *records(2, 11, 14, workers=4)])
    assert found is not None
    # Steps 11 to 15 of the first attempt were taken again: ten of it count, four of the second.
    assert (found.attempt, found.workers, found.num_steps) == (1, 2, 10)


def test_one_worker_waits_for_nobody():
    found = stepping(records(1, 1, 5, workers=1))
    assert found is not None
    assert (found.exchange_share, found.waiting_share) == (0.0, 0.0)


def test_without_shares_nobody_can_tell():
    found = stepping(records(1, 1, 5))
    assert found is not None
    assert (found.exchange_share, found.waiting_share) == (None, None)


def test_too_few_steps_say_nothing():
    assert stepping([]) is None
    assert stepping(records(1, 1, 2)) is None
