"""The order of samples: exactly once an epoch, whoever computes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.feed.cursor import Cursor, Order, share

pytestmark = pytest.mark.unit

orders = st.builds(
    Order,
    seed=st.integers(0, 2**63 - 1),
    num_samples=st.integers(1, 150),
    holdout=st.floats(0, 0.99),
)


@settings(deadline=None)
@given(order=orders)
def test_train_and_holdout_are_disjoint_and_cover_everything(order: Order) -> None:
    train = order.train_ids(0, order.num_train)
    held = order.holdout_ids()
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(order.num_samples))
    assert order.num_train >= 1
    assert order.num_holdout >= (order.holdout > 0 and order.num_samples >= 2)


@settings(max_examples=40, deadline=None)
@given(order=orders, data=st.data())
def test_each_epoch_has_each_train_sample_once_whatever_the_world(
    order: Order, data: st.DataObject
) -> None:
    """Ranks come and go at arbitrary steps; the union of what they take stays exact."""
    batch = data.draw(st.sampled_from([1, 4, 6, 12]), label="B")
    degrees = [degree for degree in range(1, batch + 1) if batch % degree == 0]
    num_steps = min(60, -(-3 * order.num_train // batch))
    consumed: list[int] = []
    degree = 1
    for step in range(num_steps):
        if step % 5 == 0:
            degree = data.draw(st.sampled_from(degrees), label=f"D from step {step}")
        for rank in range(degree):
            consumed += order.train_ids(*share(step, batch, rank, degree)).tolist()
    assert consumed == order.train_ids(0, num_steps * batch).tolist()
    expected = np.sort(order.train_ids(0, order.num_train))
    for epoch in range(len(consumed) // order.num_train):
        taken = consumed[epoch * order.num_train : (epoch + 1) * order.num_train]
        assert np.array_equal(np.sort(taken), expected)


@settings(max_examples=40, deadline=None)
@given(order=orders, start=st.integers(0, 5000), length=st.integers(0, 300))
def test_any_selection_of_positions_agrees(order: Order, start: int, length: int) -> None:
    whole = order.train_ids(start, start + length)
    backwards = order.ids_at(np.arange(start, start + length)[::-1].copy())
    assert np.array_equal(whole, backwards[::-1])


def test_epochs_and_seeds_differ() -> None:
    order = Order(0, 1000, 0.1)
    first, second = order.train_ids(0, 900), order.train_ids(900, 1800)
    assert (first == second).mean() < 0.02
    other = Order(1, 1000, 0.1)
    assert (first == other.train_ids(0, 900)).mean() < 0.02
    assert not np.array_equal(order.holdout_ids(), other.holdout_ids())


@pytest.mark.parametrize(
    ("num_samples", "holdout", "expected"),
    [(100, 0.0, 0), (100, 0.29, 29), (100, 0.07, 7), (10, 0.05, 1), (1, 0.5, 0), (2, 0.99, 1)],
)
def test_holdout_sizes(num_samples: int, holdout: float, expected: int) -> None:
    assert Order(0, num_samples, holdout).num_holdout == expected


def test_holdout_ids_are_sorted_stable_and_limited() -> None:
    order = Order(7, 1000, 0.2)
    few = order.holdout_ids(10)
    assert len(few) == 10
    assert np.array_equal(few, np.sort(few))
    assert set(few) <= set(order.holdout_ids())
    assert np.array_equal(few, Order(7, 1000, 0.2).holdout_ids(10))
    assert len(order.holdout_ids(10_000)) == 200


@given(num_train=st.integers(1, 10**9), consumed=st.integers(0, 10**15))
def test_cursors_count(num_train: int, consumed: int) -> None:
    cursor = Cursor.from_consumed(3, consumed, num_train)
    assert cursor.consumed == consumed
    assert Cursor(3, cursor.epoch, cursor.position, num_train) == cursor


def test_senseless_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        Order(0, 0, 0.1)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        Order(0, 10, 1.0)
    with pytest.raises(ValueError, match="begin at 0"):
        Order(0, 10, 0.0).train_ids(-1, 3)
    with pytest.raises(ValueError, match="not a place"):
        Cursor(0, 0, 10, 10)
    with pytest.raises(ValueError, match="consumed of epochs"):
        Cursor.from_consumed(0, -1, 10)


def test_shares_are_contiguous_and_checked() -> None:
    assert [share(2, 12, rank, 3) for rank in range(3)] == [(24, 28), (28, 32), (32, 36)]
    with pytest.raises(ValueError, match="12 mod 5 = 2"):
        share(0, 12, 0, 5)
    with pytest.raises(ValueError, match="batch rank 3"):
        share(0, 12, 3, 3)


def test_the_order_is_the_same_for_ever() -> None:
    # Checkpoints rely on these values: a resumed run continues this order.
    assert Order(42, 20, 0.1).train_ids(0, 20).tolist() == PINNED
    assert Order(42, 20, 0.1).holdout_ids().tolist() == PINNED_HOLDOUT


PINNED = [5, 1, 13, 19, 7, 14, 4, 6, 17, 8, 2, 11, 12, 18, 16, 10, 3, 15, 15, 12]
PINNED_HOLDOUT = [0, 9]
