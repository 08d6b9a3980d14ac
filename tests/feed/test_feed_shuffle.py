"""The shuffle is a bijection, looks random, differs by key, and never changes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.feed.shuffle import Permutation

pytestmark = pytest.mark.unit


def test_every_small_size_is_a_bijection() -> None:
    for size in range(1, 2001):
        positions = np.arange(size)
        permutation = Permutation(size, b"seed")
        shuffled = permutation(positions)
        assert np.array_equal(np.sort(shuffled), positions), size
        assert np.array_equal(permutation.inverse(shuffled), positions), size


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1_000_000])
def test_large_sizes_are_bijections(size: int) -> None:
    shuffled = Permutation(size, b"seed")(np.arange(size))
    assert np.array_equal(np.bincount(shuffled, minlength=size), np.ones(size))


@settings(deadline=None)
@given(
    size=st.integers(1, 2**62),
    key=st.binary(max_size=16),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40),
)
def test_the_inverse_undoes_any_size(size: int, key: bytes, fractions: list[float]) -> None:
    permutation = Permutation(size, key)
    positions = np.unique([min(size - 1, int(f * size)) for f in fractions]).astype(np.int64)
    elements = permutation(positions)
    assert elements.dtype == np.int64
    assert ((elements >= 0) & (elements < size)).all()
    assert len(np.unique(elements)) == len(positions)
    assert np.array_equal(permutation.inverse(elements), positions)


@settings(deadline=None)
@given(size=st.integers(2, 2**40), start=st.integers(0, 2**40))
def test_ranges_of_huge_sizes_come_back(size: int, start: int) -> None:
    positions = np.arange(start % size, min(size, start % size + 100))
    permutation = Permutation(size, b"k")
    assert np.array_equal(permutation.inverse(permutation(positions)), positions)


@pytest.mark.parametrize("size", [2, 3, 5, 7, 16, 37])
def test_every_element_is_equally_often_at_every_position(size: int) -> None:
    num_keys = 1500
    counts = np.zeros((size, size))
    for key in range(num_keys):
        counts[np.arange(size), Permutation(size, b"%d" % key)(np.arange(size))] += 1
    expected = num_keys / size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = (size - 1) ** 2
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_all_orders_of_four_occur_equally_often() -> None:
    num_keys = 6_000
    seen: dict[tuple[int, ...], int] = {}
    for key in range(num_keys):
        order = tuple(Permutation(4, b"%d" % key)(np.arange(4)).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    expected = num_keys / 24
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 23 + 5 * math.sqrt(2 * 23)


@pytest.mark.parametrize("size", [1000, 4099, 100_000])
def test_neighbours_and_keys_are_independent(size: int) -> None:
    positions = np.arange(size)
    orders = [Permutation(size, b"epoch:%d" % epoch)(positions) for epoch in range(8)]
    limit = 5 / math.sqrt(size)  # five standard deviations of a correlation by chance
    for order, following in itertools.pairwise(orders):
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < limit
        assert abs(np.corrcoef(order, positions)[0, 1]) < limit
        assert abs(np.corrcoef(order, following)[0, 1]) < limit
        # By chance one element stays in place, whatever the size.
        assert (order == following).sum() <= 8
        assert (np.diff(order) == 1).sum() <= 8
    fixed = sum(int((order == positions).sum()) for order in orders)
    assert fixed <= 8 + 5 * math.sqrt(8)


def test_the_order_is_the_same_for_ever() -> None:
    # Checkpoints rely on these values: a run resumed by a later version continues this order.
    assert Permutation(10, b"axis")(np.arange(10)).tolist() == PINNED_10
    assert Permutation(10**12, b"axis")(np.arange(4)).tolist() == PINNED_HUGE


PINNED_10 = [3, 2, 5, 8, 0, 7, 1, 4, 9, 6]
PINNED_HUGE = [1251018707, 6845069251, 392602980800, 324381335454]


def test_any_shape_and_blocks_agree() -> None:
    permutation = Permutation(100_000, b"k")
    positions = np.arange(60_000).reshape(3, 2, 10_000)
    whole = permutation(positions)
    assert whole.shape == positions.shape
    assert np.array_equal(whole[1, 1], permutation(positions[1, 1]))
    assert permutation(np.array([], np.int64)).shape == (0,)


def test_positions_and_sizes_are_checked() -> None:
    with pytest.raises(IndexError, match="outside of"):
        Permutation(10, b"")(np.array([10]))
    with pytest.raises(IndexError, match="outside of"):
        Permutation(10, b"").inverse(np.array([-1]))
    for size in (0, -1, 2**62 + 1):
        with pytest.raises(ValueError, match="a permutation needs a size"):
            Permutation(size, b"")
