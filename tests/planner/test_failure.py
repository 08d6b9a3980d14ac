"""The failure tax against published and hand-computed numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.failure import (
    GREATEST_RATE,
    LEAST_RATE,
    daly_interval,
    effective_training_time_ratio,
    failure_tax,
    goodput,
    interruptions,
    mean_time_to_failure,
    nodes_for,
    spares_needed,
    young_interval,
)

pytestmark = pytest.mark.unit

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
RSC_1 = 6.5
LLAMA_3 = 419 / (54 * 2.048)  # per 1000 node-days: 3.789


@pytest.mark.parametrize(
    ("mttf", "young", "daly"),
    [(24 * HOUR, 120.0, 117.0), (6 * HOUR, 60.0, 57.0), (15 * MINUTE, 12.2, 9.1)],
)
def test_best_intervals_are_those_daly_published(mttf: float, young: float, daly: float) -> None:
    assert young_interval(mttf, 5 * MINUTE) / MINUTE == pytest.approx(young, abs=0.05)
    assert daly_interval(mttf, 5 * MINUTE) / MINUTE == pytest.approx(daly, rel=0.006)


@pytest.mark.parametrize(("gpus", "hours"), [(16_384, 1.8), (131_072, 0.23), (1024, 28.85)])
def test_time_to_failure_counts_nodes_not_gpus(gpus: int, hours: float) -> None:
    found = mean_time_to_failure(nodes_for(gpus, 8), RSC_1) / HOUR
    assert found == pytest.approx(hours, rel=0.025)


def test_llama_3_interruptions_follow_from_its_rate() -> None:
    assert interruptions(nodes_for(16_384, 8), LLAMA_3, 54 * DAY) == pytest.approx(419, abs=0.5)


@pytest.mark.parametrize(
    ("nodes", "rate", "interval_minutes", "ratio"),
    [
        (512, RSC_1, 60, 0.9076), (512, RSC_1, 5, 0.9711),
        (1536, RSC_1, 60, 0.7227), (1536, RSC_1, 5, 0.9133),
        (2048, LLAMA_3, 60, 0.7845), (2048, LLAMA_3, 5, 0.9326),
    ],
)  # fmt: skip
def test_effective_training_time_ratio_is_the_published_one(
    nodes: int, rate: float, interval_minutes: float, ratio: float
) -> None:
    found = effective_training_time_ratio(nodes, rate, interval_minutes * MINUTE, 10 * MINUTE)
    assert found == pytest.approx(ratio, abs=5e-5)


def test_published_fleets_differ_by_almost_seven_times() -> None:
    assert pytest.approx(6.7, abs=0.05) == GREATEST_RATE / LEAST_RATE


def test_a_node_that_never_fails_never_saves() -> None:
    assert math.isinf(mean_time_to_failure(100, 0.0))
    assert math.isinf(mean_time_to_failure(0, 6.5))
    tax = failure_tax(100, 0.0, 60.0, DAY)
    assert (tax.goodput, tax.failure_share, tax.checkpoint_share) == (1.0, 0.0, 0.0)


def test_a_checkpoint_longer_than_two_failures_is_taken_once_per_failure() -> None:
    assert daly_interval(100.0, 200.0) == 100.0


def test_a_hopeless_machine_does_no_useful_work_and_overflows_nothing() -> None:
    assert goodput(1.0, 1e6, 1e6, 1e6) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_time_to_failure(-1, 1.0),
        lambda: mean_time_to_failure(1, -1.0),
        lambda: daly_interval(0.0, 1.0),
        lambda: young_interval(1.0, -1.0),
        lambda: goodput(1.0, 0.0, 1.0, 1.0),
        lambda: failure_tax(1, 1.0, 0.0, DAY),
        lambda: spares_needed(1, 1.0, DAY, 1.0),
        lambda: nodes_for(8, 0),
    ],
)
def test_numbers_without_a_meaning_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"needs|costs"):
        call()  # type: ignore[operator]


times = st.floats(1.0, 1e8)


@given(mttf=times, cost=times)
def test_daly_beats_its_neighbours(mttf: float, cost: float) -> None:
    """The higher-order interval is near the minimum of the complete cost function."""
    if cost > mttf / 2:
        return
    best = daly_interval(mttf, cost)
    assert goodput(mttf, best, cost, 0.0) >= 0.999 * max(
        goodput(mttf, best * factor, cost, 0.0) for factor in (0.5, 0.8, 1.25, 2.0)
    )


@given(nodes=st.integers(1, 100_000), rate=st.floats(0.01, 100.0), cost=st.floats(0.1, 3600.0))
def test_shares_of_time_add_up(nodes: int, rate: float, cost: float) -> None:
    tax = failure_tax(nodes, rate, cost, DAY)
    shares = (tax.goodput, tax.checkpoint_share, tax.failure_share)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert sum(shares) == pytest.approx(1.0)


@given(nodes=st.integers(1, 5000), more=st.integers(1, 5000), rate=st.floats(0.1, 50.0))
def test_more_nodes_never_do_better(nodes: int, more: int, rate: float) -> None:
    few, many = failure_tax(nodes, rate, 60.0, DAY), failure_tax(nodes + more, rate, 60.0, DAY)
    assert many.goodput <= few.goodput + 1e-12
    assert many.num_interruptions >= few.num_interruptions
    assert spares_needed(nodes + more, rate, DAY) >= spares_needed(nodes, rate, DAY)


def test_spares_are_the_poisson_quantile() -> None:
    # Mean 0.0758: P(0) = 0.9270, P(≤1) = 0.99727, P(≤2) = 0.99993.
    assert spares_needed(20, 3.79, DAY, 0.9) == 0
    assert spares_needed(20, 3.79, DAY, 0.99) == 1
    assert spares_needed(20, 3.79, DAY, 0.999) == 2
    # From a mean of 500 on by the normal limit: 600 + 3.09 · √600.
    assert spares_needed(600, 1000.0, DAY, 0.999) == 676
