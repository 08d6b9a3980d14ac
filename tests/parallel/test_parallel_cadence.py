"""Intervals by hand, what is measured of a run's own checkpoints, and when that is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gloo_gang import Gang
from hypothesis import given
from hypothesis import strategies as st
from small_runs import DIGITS, Stores

from orchestrator.parallel.cadence import Costs, TimedCadence, choose_interval, span
from orchestrator.plan.cadence import FailureHistory, daly_interval, young_interval

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
POSITIVE = st.floats(1e-3, 1e5)


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.unit
@pytest.mark.parametrize(
    ("mtbf", "young", "daly"),
    [(24 * HOUR, 120.0, 117.0), (6 * HOUR, 60.0, 57.0), (15 * MINUTE, 12.2, 9.1)],
)
def test_five_minutes_a_checkpoint(mtbf: float, young: float, daly: float) -> None:
    """The figures of the two papers, through the whole choice and into its sentence."""
    costs = Costs(5 * MINUTE, 5 * MINUTE, 3, 0)
    found = choose_interval(costs, mtbf, FailureHistory())
    assert round(young_interval(mtbf, 5 * MINUTE) / MINUTE, 1) == young
    assert round(found.seconds / MINUTE, 0 if daly > 10 else 1) == daly
    assert "C = 5 min (median of the last 3)" in found.sentence()


@pytest.mark.unit
def test_the_sentence_shows_every_number() -> None:
    history = FailureHistory(2, 4 * HOUR, 6.0)
    found = choose_interval(Costs(0.8, 2.0, 1, 10**9), 8 * HOUR, history)
    assert found.mtbf_seconds == 4 * HOUR
    assert found.sentence() == (
        "checkpoints every 2.52 min: Daly with C = 0.8 s (measured), M = 4 h (the plan's 8 h as "
        "one observation, 2 failures in 4 h); Young would say 2.53 min; restart 6 s → "
        "failure tax 1.1%"
    )


@pytest.mark.unit
def test_before_anything_is_measured_the_estimate_says_what_it_rests_on() -> None:
    cadence = TimedCadence(DAY, FailureHistory(), 200 * 10**6, Clock())
    told = cadence.news()
    assert told is not None
    assert told.seconds == 40.0
    assert "C = 2 s (estimated: 200.0 MB a worker at an assumed 100 MB/s)" in told.sentence()
    assert "the first after 40 s to measure" in told.sentence()
    assert "restart not measured yet" in told.sentence()


@pytest.mark.unit
@given(POSITIVE, POSITIVE, POSITIVE, st.integers(0, 50), st.floats(0, 1e6))
def test_no_interval_is_shorter_than_writing_and_failures_shorten_it(
    cost: float, write: float, prior: float, failures: int, elapsed: float
) -> None:
    costs = Costs(cost, write, 1, 0)
    found = choose_interval(costs, prior, FailureHistory(failures, elapsed))
    more = choose_interval(costs, prior, FailureHistory(failures + 1, elapsed))
    assert found.seconds >= write
    assert found.seconds == max(write, daly_interval(found.mtbf_seconds, cost))
    if more.mtbf_seconds > cost:  # Daly's formula jumps where a checkpoint costs 2·M
        assert more.seconds <= found.seconds * (1 + 1e-9)
    assert 0 <= found.tax <= 1


@pytest.mark.unit
def test_what_is_known_of_failures_moves_from_the_plan_to_the_run() -> None:
    assert FailureHistory().mean_seconds_between(DAY) == DAY
    assert FailureHistory(0, DAY).mean_seconds_between(DAY) == 2 * DAY
    often = FailureHistory(99_999, 99_999 * MINUTE)
    assert often.mean_seconds_between(DAY) == pytest.approx(MINUTE, rel=0.02)


@pytest.mark.unit
def test_a_checkpoint_costs_what_is_waited_for_and_what_it_slows_down() -> None:
    clock = Clock()
    cadence = TimedCadence(DAY, FailureHistory(), 0, clock)
    for _ in range(10):
        cadence.step_taken(1.0)
    clock.now += 10
    assert cadence.due()
    cadence.saved(stall_seconds=0.5)
    for _ in range(4):
        clock.now += 1000
        assert not cadence.due(), "one is written at a time"
        cadence.step_taken(1.1)
    cadence.written(write_seconds=4.4)
    costs = cadence.interval().costs
    assert costs.seconds == pytest.approx(0.5 + 4 * 0.1)
    assert (costs.write_seconds, costs.num_measured) == (4.4, 1)
    assert cadence.due(), "the next one was due long ago"


@pytest.mark.unit
def test_the_median_of_the_last_five_counts() -> None:
    clock = Clock()
    cadence = TimedCadence(DAY, FailureHistory(), 0, clock)
    for cost in (100.0, 1.0, 2.0, 3.0, 4.0, 90.0):
        cadence.saved(cost)
        cadence.written(cost)
    assert cadence.interval().costs.seconds == 3.0


@pytest.mark.unit
def test_it_is_told_when_it_is_measured_and_when_it_changes_by_a_tenth() -> None:
    clock = Clock()
    cadence = TimedCadence(DAY, FailureHistory(), 0, clock)
    assert cadence.news() is not None
    assert cadence.news() is None
    cadence.saved(1.0)
    cadence.written(1.0)
    assert cadence.news() is not None, "measured now"
    cadence.saved(1.1)
    cadence.written(1.1)
    assert cadence.news() is None, "five per cent"
    cadence.saved(4.0)
    cadence.written(4.0)
    cadence.saved(4.0)
    cadence.written(4.0)
    assert cadence.news() is not None


@pytest.mark.gloo
@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_by_the_clock_all_workers_save_after_the_same_steps(
    gang: Gang, stores: Stores, new_run: Callable[[], str], asynchronous: str
) -> None:
    """A failure each second is expected, so a checkpoint comes as often as it can be written."""
    settings = f"{{every: auto, mtbf: 1s, asynchronous: {asynchronous}}}"
    overrides = (f"coordination.checkpoint={settings}", "training.steps=60",
                 "training.evaluate.samples=0")  # fmt: skip
    ranks = gang.run("train_case", 2, DIGITS, overrides, stores.digits, new_run())
    saved = [manifest.step for manifest in ranks[0]["manifests"]]
    assert len(saved) >= 2, "by the clock, not at the end alone"
    assert saved[-1] == 60
    assert all(rank["result"].checkpoint.startswith("checkpoints/step-00000060") for rank in ranks)
    told = [note for note in ranks[0]["notes"] if note.kind == "cadence"]
    assert "estimated" in told[0].text
    assert "measured" in told[1].text
    assert told[1].figures["seconds"] >= told[1].figures["write_seconds"] > 0
    assert told[1].figures["mtbf_seconds"] >= 1.0
    assert [note for note in ranks[1]["notes"] if note.kind == "cadence"] == [], "one clock"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("seconds", "text"), [(0.82, "0.82 s"), (41.2, "41 s"), (732, "12.2 min"), (86_400, "24 h")]
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text
