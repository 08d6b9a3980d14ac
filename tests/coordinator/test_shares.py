"""What workers spend their steps on: who waits least waits for the exchange alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.shares import Counted, Shares, shares_of
from orchestrator.coordinator.stretches import Work

pytestmark = pytest.mark.unit


def work(rank: int, busy: float | None, step: int = 1, seconds: float = 1.0) -> Work:
    return Work(step=step, rank=rank, step_seconds=seconds, busy_seconds=busy, data_seconds=0.1)


def test_by_hand():
    # Of the 0.9 s that are not data, one works 0.8 and the other 0.5: 0.1 of both is the
    # exchange, and what the second waits beyond, 0.3, is the first one's slowness: 0.15 a worker.
    found = shares_of({0: work(0, 0.8), 1: work(1, 0.5)})
    assert found is not None
    assert found.exchange_seconds == pytest.approx(0.1)
    assert found.waiting_seconds == pytest.approx(0.15)
    assert found.data_seconds == pytest.approx(0.1)
    assert found.step_seconds == 1.0


@given(st.lists(st.floats(0.0, 0.9), min_size=1, max_size=8))
def test_shares_are_parts_of_the_step(busy):
    found = shares_of({rank: work(rank, each) for rank, each in enumerate(busy)})
    assert found is not None
    assert found.exchange_seconds >= 0
    assert found.waiting_seconds >= -1e-12
    own = sum(busy) / len(busy)
    parts = found.exchange_seconds + found.waiting_seconds + found.data_seconds
    assert parts + own == pytest.approx(1.0)


def test_nothing_is_said_where_one_cannot_tell():
    assert shares_of({0: work(0, 0.8), 1: work(1, None)}) is None


def test_a_step_counts_when_all_have_told_of_it_in_any_order():
    counted = Counted(2)
    for each in (work(0, 0.8), work(0, 0.8, step=2), work(1, 0.8, step=2), work(1, 0.5)):
        counted = counted.with_work(each)
    assert counted.shares.num_steps == 2
    assert counted.open_steps == {}
    assert counted.shares.step_seconds == pytest.approx(2.0)


def test_steps_that_nobody_finishes_are_forgotten():
    counted = Counted(2)
    for step in range(500):
        counted = counted.with_work(work(0, 0.5, step=step))
    assert len(counted.open_steps) <= 64
    assert counted.shares == Shares()
