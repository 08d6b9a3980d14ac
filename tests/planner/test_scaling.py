"""The laws of scaling against hand-computed numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.scaling import (
    Roofline,
    amdahl_speedup,
    communication_ratio,
    gustafson_speedup,
    honest_worker_count,
    karp_flatt_serial_share,
    scaling_curve,
)

pytestmark = pytest.mark.unit

shares, workers = st.floats(0.0, 1.0), st.integers(1, 100_000)


def test_five_percent_serial_never_gets_beyond_twenty() -> None:
    assert amdahl_speedup(0.05, 8) == pytest.approx(1 / (0.05 + 0.95 / 8))  # 5.93
    assert amdahl_speedup(0.05, 8) == pytest.approx(5.926, abs=1e-3)
    assert amdahl_speedup(0.05, 1e12) == pytest.approx(20.0)
    assert gustafson_speedup(0.05, 8) == pytest.approx(7.65)


@given(shares, workers)
def test_speedups_lie_between_one_and_linear(share: float, count: int) -> None:
    for law in (amdahl_speedup, gustafson_speedup):
        assert 1.0 - 1e-9 <= law(share, count) <= count * (1 + 1e-9)
    assert amdahl_speedup(share, count) <= gustafson_speedup(share, count) * (1 + 1e-9)


@given(st.floats(0.001, 1.0), st.integers(2, 10_000))
def test_karp_flatt_undoes_amdahl(share: float, count: int) -> None:
    speedup = amdahl_speedup(share, count)
    assert karp_flatt_serial_share(speedup, count) == pytest.approx(share, rel=1e-6)


def test_roofline_of_an_h100() -> None:
    roof = Roofline(peak_flops=989e12, bandwidth_bytes=3.35e12)
    assert roof.ridge == pytest.approx(295.2, abs=0.1)
    assert roof.attainable_flops(1.0) == 3.35e12  # a matrix times a vector: memory binds
    assert roof.attainable_flops(1e4) == 989e12
    # One token of 70 billion parameters in two bytes: 140 GB / 3.35 TB/s.
    assert roof.seconds(140e9, 140e9) == pytest.approx(0.0418, abs=1e-4)


def test_the_ratio_is_that_of_times() -> None:
    assert communication_ratio(3.0, 2.0) == 1.5
    with pytest.raises(ValueError, match="above 0"):
        communication_ratio(1.0, 0.0)


def test_the_honest_count_is_where_one_more_brings_less_than_half() -> None:
    # T(K) = 100/K + K: 101, 52, 29, 20.5, 22.25 for 1, 2, 4, 8, 16 workers.
    curve = scaling_curve(lambda k: 100 / k + k, [16, 1, 2, 4, 8])
    assert [round(point.speedup, 2) for point in curve] == [1.0, 1.94, 3.48, 4.93, 4.54]
    assert [round(point.marginal_gain, 2) for point in curve] == [1.0, 0.94, 0.77, 0.36, -0.05]
    assert honest_worker_count(curve) == 4
    assert honest_worker_count(curve, least_gain=0.0) == 8
    assert curve[2].efficiency == pytest.approx(101 / 29 / 4)


@given(st.floats(0.01, 1e6), st.floats(0.0, 100.0), st.integers(2, 200))
def test_more_tax_never_makes_the_honest_count_larger(work: float, tax: float, most: int) -> None:
    counts = range(1, most + 1)
    free = scaling_curve(lambda k: work / k, counts)
    taxed = scaling_curve(lambda k: work / k + tax * (k - 1), counts)
    assert honest_worker_count(taxed) <= honest_worker_count(free) == most


@pytest.mark.parametrize(
    "call",
    [
        lambda: amdahl_speedup(1.5, 2),
        lambda: gustafson_speedup(0.5, 0),
        lambda: karp_flatt_serial_share(2.0, 1),
        lambda: Roofline(0.0, 1.0),
        lambda: scaling_curve(lambda _: 1.0, []),
        lambda: scaling_curve(lambda _: 0.0, [1]),
        lambda: honest_worker_count(()),
    ],
)
def test_what_has_no_meaning_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        call()  # type: ignore[operator]
