"""Where the time went: every second once, and in the right place."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.ledger import PARTS, Ledger, commit, let_go, spend, step
from orchestrator.coordinator.state import RunState
from tests.coordinator.random_runs import any_event, likely_event
from tests.coordinator.story import (
    DEPLOYED,
    TORN_DOWN,
    Story,
    committed,
    ended,
    lost,
    opened,
    placed,
    started,
    stop,
    store,
)

pytestmark = pytest.mark.unit

Told = tuple[float, tuple[type[ev.BaseEvent], dict[str, Any]]]


def told(*rows: Told, story: Story | None = None) -> Story:
    """Tell each event so many seconds after the last; all must be accepted."""
    run = story or Story()
    for seconds, (kind, details) in rows:
        run.clock += seconds - 1
        run.tell(kind, **details)
        assert run.last is not None
        assert run.last.accepted, run.last.note
    return run


def parts(ledger: Ledger) -> dict[str, float]:
    """The parts that something was spent on, and what is held apart."""
    found = {part: ledger.seconds(part) for part in PARTS} | {"held": ledger.held_seconds}
    return {part: seconds for part, seconds in found.items() if seconds}


def saw(done: int, stall: float | None = None, saving: float | None = None) -> Any:
    return ev.Progressed, {"done": done, "stall_seconds": stall, "checkpoint_seconds": saving}


def saved(step: int, stall: float, saving: float, ahead: float = 0.0, attempt: int = 1) -> Any:
    kind, details = committed(step, 5.0, attempt)
    waits = {"stall_seconds": stall, "checkpoint_seconds": saving, "ahead_seconds": ahead}
    return kind, {**details, **waits}


TO_STEPS: tuple[Told, ...] = (
    (1, opened()),
    (3, placed(4)),
    (20, store()),
    (9, started()),
)


def test_a_run_from_its_beginning_to_its_end() -> None:
    story = told(
        *TO_STEPS,
        (100, saw(50, stall=4.0, saving=0.0)),
        (60, saved(90, stall=6.0, saving=2.0)),
        (70, saved(200, stall=6.0, saving=3.0)),
        (5, ended()),
        (8, DEPLOYED),
        (2, (ev.ExampleAnswered, {"answer": 1})),
        (4, TORN_DOWN),
    )
    assert parts(story.state.ledger) == {
        "queued": 3.0,
        "sharding": 20.0,
        "starting": 9.0,
        "data_stall": 6.0,
        "checkpoint": 3.0,
        "useful": 221.0,
        "serving": 10.0,
        "ending": 9.0,  # 5 s of workers that had nothing left to do, 4 s of giving back
    }
    assert story.state.ledger.wall_seconds == 281.0
    assert story.state.ledger.goodput == pytest.approx(221 / 281)


def test_what_is_not_committed_is_held_apart_until_it_is_useful_or_lost() -> None:
    story = told(*TO_STEPS, (30, saw(10)), (30, saw(20)))
    assert parts(story.state.ledger)["held"] == 60.0
    told((40, committed(50, 5.0)), (25, saw(60)), story=story)
    assert parts(story.state.ledger)["useful"] == 100.0
    assert parts(story.state.ledger)["held"] == 25.0
    told((15, lost("worker")), story=story)
    assert parts(story.state.ledger)["lost"] == 40.0
    told((6, placed(4)), (7, started(51)), story=story)
    assert parts(story.state.ledger)["recovering"] == 13.0
    assert parts(story.state.ledger)["queued"] == 3.0  # that of the beginning alone


def test_steps_taken_after_the_one_that_is_saved_are_not_committed_with_it() -> None:
    story = told(*TO_STEPS, (50, saved(100, stall=0.0, saving=0.0, ahead=8.0)))
    assert parts(story.state.ledger) == {
        "queued": 3.0, "sharding": 20.0, "starting": 9.0, "useful": 42.0, "held": 8.0,
    }  # fmt: skip
    told((2, lost("node")), story=story)
    assert parts(story.state.ledger)["lost"] == 10.0


def test_each_group_counts_its_waits_from_nothing() -> None:
    story = told(
        *TO_STEPS,
        (50, saved(100, stall=5.0, saving=1.0)),
        (10, lost("worker")),
        (6, placed(4)),
        (6, started(101)),
        (50, saved(150, stall=5.0, saving=1.0, attempt=2)),
    )
    ledger = story.state.ledger
    assert (ledger.data_stall_seconds, ledger.checkpoint_seconds) == (10.0, 2.0)
    assert (ledger.useful_seconds, ledger.lost_seconds) == (88.0, 10.0)


def test_waits_longer_than_the_time_there_was_do_not_make_time() -> None:
    story = told(*TO_STEPS, (10, saw(5, stall=500.0, saving=500.0)))
    assert story.state.ledger.data_stall_seconds == 10.0
    assert story.state.ledger.checkpoint_seconds == 0.0
    assert story.state.ledger.wall_seconds == 42.0


def test_a_driver_that_dies_takes_its_steps_with_it_and_leaves_a_gap() -> None:
    story = told(*TO_STEPS, (30, committed(50, 5.0)), (20, saw(60)), (600, opened()))
    ledger = story.state.ledger
    assert (ledger.lost_seconds, ledger.away_seconds) == (20.0, 600.0)
    assert ledger.wall_seconds == 82.0
    told((4, placed(4)), (5, store()), story=story)
    assert parts(story.state.ledger)["queued"] == 7.0
    assert story.state.ledger.wall_seconds == 91.0


def test_time_after_the_end_is_nobodys() -> None:
    story = told(*TO_STEPS, (10, stop("sigterm")), (3, ended(9, stopped=True)), (1, TORN_DOWN))
    wall_seconds = story.state.ledger.wall_seconds
    assert parts(story.state.ledger)["lost"] == 13.0  # steps 1 to 9 were never committed
    told((5000, opened()), story=story)
    assert story.state.ledger.wall_seconds == wall_seconds
    assert story.state.ledger.away_seconds == 5000.0


def test_workers_cost_from_their_placement_to_their_release() -> None:
    story = told(*TO_STEPS, (3600, committed(50, 5.0)), (10, lost("worker")), (30, placed(2)))
    worker_seconds = 4 * (20 + 9 + 3600 + 10)
    assert story.state.ledger.worker_seconds == worker_seconds
    told((10, started(51)), story=story)
    assert story.state.ledger.worker_seconds == worker_seconds + 2 * 10
    assert story.state.ledger.cost(price_per_hour=3.0) == pytest.approx(
        (worker_seconds + 20) / 3600 * 3.0
    )


def test_a_clock_that_is_an_hour_ahead_takes_that_hour_once() -> None:
    story = told(*TO_STEPS)
    for number in range(1, 6):
        story.clock += 3600 - 1
        story.tell(ev.Progressed, done=2 * number)
        story.clock -= 3600
        story.tell(ev.Progressed, done=2 * number + 1)
    assert story.state.ledger.wall_seconds == pytest.approx(32 + 3600, abs=10)


def test_an_empty_ledger_has_no_goodput() -> None:
    assert (Ledger().wall_seconds, Ledger().goodput, Ledger().cost(2.0)) == (0.0, None, 0.0)


SECONDS = st.floats(0, 1e6)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("step"), SECONDS, st.none() | SECONDS, st.none() | SECONDS),
            st.tuples(st.just("commit"), SECONDS, st.none(), st.none()),
            st.tuples(st.sampled_from(PARTS), SECONDS, st.none(), st.none()),
            st.tuples(st.just("gone"), st.just(0.0), st.none(), st.none()),
        ),
        max_size=30,
    )
)
def test_the_parts_sum_to_what_was_put_in(
    moves: list[tuple[Any, float, float | None, float | None]],
) -> None:
    ledger, put_in = Ledger(), 0.0
    for what, seconds, stall, saving in moves:
        before = ledger
        if what == "step":
            ledger, put_in = step(ledger, seconds, stall, saving), put_in + seconds
        elif what == "commit":
            ledger = commit(ledger, seconds)
        elif what == "gone":
            ledger = let_go(ledger, "lost")
        else:
            ledger, put_in = spend(ledger, what, seconds), put_in + seconds
        assert all(ledger.seconds(part) >= before.seconds(part) for part in PARTS)
        assert ledger.held_seconds >= 0.0
    assert ledger.wall_seconds == pytest.approx(put_in, rel=1e-9, abs=1e-6)


CLOCKS = st.one_of(st.floats(0, 100), st.floats(-3600, 3600))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans(), CLOCKS), max_size=60))
def test_wall_time_is_that_of_the_events_whatever_they_are(
    moves: list[tuple[int, bool, float]],
) -> None:
    """By books of their own: each second up to the highest clock seen, counted anew from each
    opening, and not before the first or after an end."""
    state, clock, highest, wall = RunState(), 1e6, 0.0, 0.0
    for seed, likely, seconds in moves:
        clock += seconds
        event = (likely_event if likely else any_event)(random.Random(seed), state, clock)
        decision = decide(state, event)
        if not decision.accepted:
            continue
        if isinstance(event, ev.Opened):
            highest = clock
        else:
            wall += max(0.0, clock - highest) if state.phase != "ended" else 0.0
            highest = max(highest, clock)
        state = decision.state
    ledger = state.ledger
    assert sum(ledger.seconds(part) for part in PARTS) + ledger.held_seconds == pytest.approx(
        wall, rel=1e-9, abs=1e-6
    )
    assert ledger.goodput is None or 0.0 <= ledger.goodput <= 1.0
