"""Fits give back the numbers that the timings were made of."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.calibration.fitting import (
    fit_attention,
    fit_kernels,
    fit_line,
    fit_link,
    fit_products,
    fit_spread,
)
from orchestrator.planner.calibration.timings import KernelTiming
from orchestrator.planner.cost.spread import expected_maximum
from tests.planner.calibration.timed_machines import (
    HALF,
    RATE,
    SHAPES,
    SIZES,
    exchange,
    product,
    worker,
)

pytestmark = pytest.mark.unit

COLLECTIVES = ("broadcast", "all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@given(
    st.sampled_from(COLLECTIVES),
    st.integers(2, 16),
    st.floats(2e-6, 1e-2),
    st.floats(1e-12, 1e-8),
)
def test_a_link_is_found_again(collective, ranks, alpha, beta):
    timings = [exchange(collective, ranks, size, alpha, beta) for size in SIZES]
    found = fit_link(timings)
    if collective == "broadcast" and ranks > 2:
        # The faster of tree and ring: two lines, of which a fit is one.
        assert found.error < 0.35
        return
    assert found.alpha == pytest.approx(alpha, rel=1e-3)
    assert found.beta == pytest.approx(beta, rel=1e-3)
    assert found.error < 1e-3


def test_a_link_by_hand():
    # Two ranks reduce n bytes in 2α + nβ: 230 µs for nothing, 1230 µs for a megabyte.
    small, large = exchange("all_reduce", 2, 1), exchange("all_reduce", 2, 10**6)
    found = fit_link([replace(small, seconds=230e-6), replace(large, seconds=1230e-6)])
    assert found.alpha == pytest.approx(100e-6, rel=1e-3)  # (230 - 30 of launching) / 2 steps
    assert found.bandwidth == pytest.approx(1e9, rel=1e-3)


def test_a_link_never_takes_nothing():
    # Large messages that are faster than small ones: no line through them has a slope above 0.
    timings = [replace(exchange("all_gather", 2, n), seconds=1e-4 / i) for i, n in
               enumerate(SIZES, 1)]  # fmt: skip
    found = fit_link(timings)
    assert found.alpha > 0
    assert math.isfinite(found.bandwidth)
    assert found.bandwidth > 0


def test_a_fit_of_two_collectives_is_refused():
    with pytest.raises(ValueError, match="one collective"):
        fit_link([exchange("all_gather", 2, 1), exchange("all_reduce", 2, 1)])
    with pytest.raises(ValueError, match="two different sizes"):
        fit_link([exchange("all_gather", 2, 1)])


@given(st.floats(-1.0, 1.0), st.floats(0.1, 10.0))
def test_a_line_is_found_again(constant, slope):
    points = [(x, constant + slope * x) for x in (12.0, 20.0, 40.0, 100.0)]
    found = fit_line(points)
    assert found == pytest.approx((constant, slope), rel=1e-6, abs=1e-6)


def test_products_give_back_rate_and_half_lengths():
    found = fit_products([product(shape) for shape in SHAPES])
    assert found.rate == pytest.approx(RATE, rel=0.02)
    lengths = (found.half.rows, found.half.columns, found.half.inner)
    assert lengths == pytest.approx(HALF, rel=0.15)
    assert found.error < 0.01


def test_products_of_one_speed_have_no_half_lengths():
    timings = [replace(product(s), seconds=2 * math.prod(s) / RATE) for s in SHAPES]
    found = fit_products(timings)
    assert found.rate == pytest.approx(RATE, rel=1e-3)
    assert max(found.half.rows, found.half.columns, found.half.inner) < 0.1


def test_nothing_timed_is_refused():
    for fit in (fit_products, fit_kernels, lambda timings: fit_attention(timings, 1.0)):
        with pytest.raises(ValueError, match=r"no .* timed"):
            fit([])


def test_attention_is_told_at_head_size_128():
    assert fit_attention(worker().attention, RATE) == pytest.approx((0.4, 0.3))


@pytest.mark.parametrize(("ranks", "exactly"), [(1, 0), (2, 0.5642), (4, 1.0294), (16, 1.7660)])
def test_the_slowest_of_many(ranks, exactly):
    """Exact means of the largest of so many normal values: Harter 1961, table 1."""
    assert expected_maximum(ranks) == pytest.approx(exactly, rel=0.05)


@given(st.floats(0.01, 0.1), st.integers(2, 16), st.integers(0, 2**32))
def test_the_spread_is_found_again(spread, ranks, seed):
    """From below: in the median step of two the wait is 0.85 of that in the mean."""
    chance = random.Random(seed)
    steps = [[max(0.01, chance.gauss(1.0, spread)) for _ in range(ranks)] for _ in range(400)]
    assert 0.6 * spread < fit_spread(steps) < 1.2 * spread


@pytest.mark.parametrize("pace", [[], [[1.0]], [[1.0, 2.0], [1.0]]])
def test_one_rank_has_nobody_to_wait_for(pace):
    with pytest.raises(ValueError, match="two and more"):
        fit_spread(pace)


def test_kernels_are_a_median():
    timings = [KernelTiming(10.0, s) for s in (1.0, 2.0, 100.0)]
    assert fit_kernels(timings) == 5.0
