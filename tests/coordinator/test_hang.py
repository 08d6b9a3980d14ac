"""Whom the others wait for, and what a run's past says about failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.hang import Seat, Whereabouts, accuse
from orchestrator.coordinator.past import failure_history
from orchestrator.plan.cadence import FailureHistory
from tests.coordinator.story import (
    PLAN,
    TO_STEP_200,
    TO_TRAINING,
    Story,
    committed,
    lost,
    opened,
    placed,
    play,
    started,
    stop,
    store,
)

pytestmark = pytest.mark.unit

SEATS = {rank: Seat(100 + rank, f"node-{rank}") for rank in range(4)}


def at(rank: int, progress: int = 7, micro: int = 0, waiting: bool = True) -> Whereabouts:
    return Whereabouts(
        seat=SEATS[rank],
        what="step 12",
        phase="forward and backward",
        where=f"at job.py:{rank} in loss",
        seconds=61.0,
        progress=progress,
        micro_batches=micro,
        waiting=waiting,
        stack=f"stack of {rank}",
    )


@pytest.mark.parametrize(
    ("said", "blamed"),
    [
        ({0: at(0), 1: at(1, waiting=False), 2: at(2), 3: at(3)}, 1),
        ({0: at(0, 8), 1: at(1, 8), 2: at(2, 7), 3: at(3, 8, waiting=False)}, 2),
        ({0: at(0, 7, 1), 1: at(1, 7, 1), 2: at(2, 7, 1), 3: at(3, 7, 0)}, 3),
        ({0: at(0), 2: at(2, waiting=False), 3: at(3)}, 1),
        ({0: at(0), 1: at(1), 2: at(2), 3: at(3)}, 0),
    ],
    ids=["works while others wait", "fewest phases", "fewest micro-batches", "silent", "all wait"],
)
def test_the_one_that_the_others_wait_for(said: dict[int, Whereabouts], blamed: int) -> None:
    found = accuse(said, 4, SEATS, {})
    assert found.rank == blamed
    assert found.seat == SEATS[blamed]
    assert f"worker {blamed} (pid {100 + blamed} on node node-{blamed})" in found.message


def test_the_message_says_where_and_since_when() -> None:
    found = accuse({0: at(0), 1: at(1, waiting=False)}, 2, {}, {})
    assert found.message == (
        "worker 1 (pid 101 on node node-1) has been at step 12 for 61 s, in forward and backward, "
        "at job.py:1 in loss; the others wait for it"
    )
    assert found.stack == "stack of 1"


def test_one_that_was_never_seen_is_named_by_its_rank() -> None:
    found = accuse({0: at(0)}, 2, {}, {})
    assert (found.rank, found.seat) == (1, None)
    assert found.message.startswith("worker 1 did not say where it is")
    assert found.message.endswith("no stack of worker 1 could be had, this is worker 0's")
    assert found.stack == "stack of 0"


def test_one_that_says_nothing_is_shown_as_it_looks_from_outside() -> None:
    found = accuse({0: at(0)}, 2, SEATS, {1: "seen from outside"})
    assert (found.rank, found.stack) == (1, "seen from outside")
    assert "could be had" not in found.message


@given(
    st.dictionaries(
        st.integers(0, 7),
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 8),
)
def test_somebody_is_blamed_whatever_is_said(
    said: dict[int, tuple[int, int, bool]], num_workers: int
) -> None:
    known = {
        rank: replace(at(rank % 4), progress=p, micro_batches=m, waiting=w)
        for rank, (p, m, w) in said.items()
        if rank < num_workers
    }
    if not known:
        return
    found = accuse(known, num_workers, SEATS, {})
    assert 0 <= found.rank < num_workers
    if len(known) < num_workers:
        assert found.rank not in known
    else:
        assert known[found.rank].progress == min(each.progress for each in known.values())


def test_a_named_hang_restarts_within_its_budget_and_then_shows_the_stack() -> None:
    named = {"user_traceback": "File job.py", "rank": 1, "pid": 9, "node": "n"}
    story = play(
        [
            *TO_TRAINING,
            (committed(50, 5.9), "training: -"),
            (
                lost("hang", "worker 1 hangs", **named),
                "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)",
            ),
            (placed(4), "training: StartTraining(4 50)"),
            (started(51), "training: -"),
            (
                lost("hang", "worker 1 hangs", **named),
                "ending: KillTraining, ReleaseGang, ConfirmTornDown",
            ),
        ]
    )
    outcome = story.state.outcome
    assert outcome is not None
    assert outcome.exit_code == 1
    assert "restarts used 1 of coordination.restarts.hang=1" in outcome.message
    assert outcome.user_traceback == "File job.py"


def test_a_hang_is_told_with_the_process_and_reads_back() -> None:
    event = ev.TrainingFailed(
        attempt=2, at_seconds=3.0, cause="hang", message="m", user_traceback="s",
        rank=1, pid=77, node="n",
    )  # fmt: skip
    assert ev.from_json(ev.to_json(event)) == event
    older = b'{"attempt":1,"at_seconds":1.0,"kind":"training-failed","cause":"node","message":"m"}'
    assert ev.from_json(older).rank is None  # type: ignore[union-attr]


Row = tuple[type, dict[str, Any]]


def tell(story: Story, row: Row) -> None:
    kind, details = row
    story.tell(kind, **details)


def at_time(story: Story, clock: float, row: Row) -> None:
    story.clock = clock - 1
    tell(story, row)


def test_the_past_counts_failures_training_and_restarts() -> None:
    story = Story()
    assert failure_history(story.state) == FailureHistory()
    at_time(story, 100, opened())
    at_time(story, 110, placed(4))
    at_time(story, 150, store())
    at_time(story, 160, started())
    at_time(story, 260, committed(50))
    assert failure_history(story.state) == FailureHistory(0, 100.0, None)
    at_time(story, 300, lost("node"))
    assert failure_history(story.state) == FailureHistory(1, 140.0, None)
    at_time(story, 320, placed(4))
    at_time(story, 330, started(51))
    assert failure_history(story.state) == FailureHistory(1, 140.0, 30.0)
    # The driver dies; days later another one goes on: a failure, but no time of training.
    at_time(story, 400, committed(100, attempt=2))
    at_time(story, 900_000, opened())
    assert failure_history(story.state) == FailureHistory(2, 210.0, 30.0)
    at_time(story, 900_010, placed(4))
    at_time(story, 900_020, store())
    at_time(story, 900_050, started(101))
    assert failure_history(story.state) == FailureHistory(2, 210.0, 40.0)
    assert story.state.restart_seconds == (30.0, 50.0)


def test_what_is_the_job_s_own_fault_or_asked_for_is_no_failure() -> None:
    story = play(TO_TRAINING)
    tell(story, lost("user"))
    assert story.state.num_failures == 0
    story = play(TO_TRAINING)
    tell(story, stop())
    tell(story, opened(PLAN))
    assert story.state.num_failures == 0
    assert play(TO_STEP_200).state.num_failures == 0


def test_time_that_runs_backwards_counts_as_none() -> None:
    story = play(TO_TRAINING)
    at_time(story, 5.0, committed(50))
    assert story.state.trained_seconds == 0.0
