"""Runs in which something goes wrong; told as tables (``story``)."""

from __future__ import annotations

import pytest

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import due
from orchestrator.coordinator.state import Outcome
from tests.coordinator.story import (
    DEPLOYED,
    PLAN,
    TO_STEP_200,
    TO_TRAINING,
    TORN_DOWN,
    Story,
    committed,
    ended,
    lost,
    opened,
    placed,
    play,
    show,
    started,
    stop,
    store,
)

pytestmark = pytest.mark.unit


def test_a_lost_worker_restarts_from_the_newest_checkpoint_in_a_new_attempt() -> None:
    story = play(
        [
            *TO_TRAINING,
            (committed(100, 5.9), "training: -"),
            (lost("worker"), "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"),
            (placed(2), "training: StartTraining(2 100)"),
        ]
    )
    assert (story.state.attempt, story.state.recovering) == (2, "worker")
    play(
        [
            (committed(150), "! refused"),
            ((ev.CheckpointCommitted, {**committed(150)[1], "attempt": 1}), "! fenced"),
            (started(101), "training: -"),
            (committed(150, 5.7, attempt=2), "training: -"),
        ],
        story,
    )
    assert story.state.recovering is None


def test_budgets_are_counted_by_cause_and_name_themselves_when_spent() -> None:
    again = "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"
    story = play(
        [
            *TO_TRAINING,
            (lost("node"), again),
            (placed(4), "training: StartTraining(4 0)"),
            (lost("worker"), again),
            (placed(4), "training: StartTraining(4 0)"),
            (lost("preemption"), again),
            (placed(4), "training: StartTraining(4 0)"),
            (lost("worker"), again),
            (placed(4), "training: StartTraining(4 0)"),
            (
                lost("worker", "rank 3 was killed"),
                "ending: KillTraining, ReleaseGang, ConfirmTornDown",
            ),
            (TORN_DOWN, "ended: End(1)"),
        ]
    )
    assert story.state.outcome is not None
    assert story.state.outcome.message == (
        "rank 3 was killed (cause: worker; restarts used 2 of coordination.restarts.worker=2; "
        "no checkpoint was committed yet)"
    )
    assert story.state.num_restarts == 4


def test_a_bug_in_the_job_fails_once_with_its_own_traceback() -> None:
    story = play(
        [
            *TO_TRAINING,
            (
                lost("user", "ZeroDivisionError", user_traceback="Traceback: jobs/gpt.py"),
                "ending: KillTraining, ReleaseGang, ConfirmTornDown",
            ),
            (TORN_DOWN, "ended: End(1)"),
        ]
    )
    assert isinstance(story.last and story.last.actions[-1], act.End)
    assert story.state.outcome is not None
    assert story.state.outcome.user_traceback == "Traceback: jobs/gpt.py"
    assert story.state.outcome.message == "the Job's own code raised: ZeroDivisionError"


def test_a_group_lost_after_its_last_checkpoint_costs_nothing() -> None:
    play([*TO_STEP_200, (lost("user"), "deploying: KillTraining, Deploy(200)")])


def test_workers_that_leave_early_are_a_loss_not_a_success() -> None:
    play([*TO_TRAINING, (ended(120), "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)")])


def test_a_new_driver_gives_back_what_the_dead_one_held() -> None:
    story = play(
        [
            *TO_TRAINING,
            (committed(100, 5.9), "training: -"),
            (opened(), "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"),
            ((ev.TrainingEnded, {"step": 200, "attempt": 1}), "! fenced"),
            (placed(4), "sharding: BuildStore"),
            (store(), "training: StartTraining(4 100)"),
        ]
    )
    assert story.state.attempt == 2


def test_an_app_left_by_a_dead_driver_is_taken_down_first() -> None:
    play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (DEPLOYED, "serving: SendExample"),
            (opened(), "reserving: TearDown, ReleaseGang, ReserveGang()"),
            (placed(0), "deploying: Deploy(200)"),
        ]
    )


def test_two_drivers_cannot_open_the_same_attempt() -> None:
    story = play(TO_TRAINING)
    again = {**opened()[1], "attempt": 1}
    assert story.tell(ev.Opened, **again) == "! fenced"
    assert story.tell(ev.Opened, **{**again, "attempt": 3}) == "! refused"


def test_a_source_that_changed_under_the_run_is_refused() -> None:
    story = play(
        [
            *TO_TRAINING,
            (committed(100, 5.9), "training: -"),
            (opened(), "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"),
            (placed(4), "sharding: BuildStore"),
            (store("xyz", 900), "ending: ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(2)"),
        ]
    )
    assert story.state.outcome is not None
    assert "1000 samples (content abc) then, 900 samples (content xyz) now" in (
        story.state.outcome.message
    )
    play(
        [
            (opened(), "reserving: ReserveGang(4,2)"),
            (placed(4), "sharding: BuildStore"),
            (store(), "training: StartTraining(4 100)"),
        ],
        story,
    )


def test_a_gang_that_is_not_placed_ends_with_code_4() -> None:
    message = "needs 4 × {CPU: 1}; free: 2"
    timed_out = (ev.GangTimedOut, {"message": message})
    story = play(
        [
            (opened(), "reserving: ReserveGang(4,2)"),
            (timed_out, "ending: ReleaseGang, ConfirmTornDown"),
            (placed(4), "! ignored"),
            (TORN_DOWN, "ended: End(4)"),
        ]
    )
    assert story.state.outcome == Outcome(exit_code=4, message=message)


def test_a_gang_nobody_asked_for_is_refused() -> None:
    play([(opened(), "reserving: ReserveGang(4,2)"), (placed(3), "! refused")])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before() -> None:
    damaged = (ev.CheckpointDamaged, {"folder": "s150a1", "reason": "a flipped bit"})
    story = play(
        [
            *TO_TRAINING,
            (committed(100, 5.9), "training: -"),
            (committed(150, 5.8), "training: -"),
            (opened(), "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"),
            (placed(4), "sharding: BuildStore"),
            (store(), "training: StartTraining(4 150)"),
            (damaged, "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)"),
            (placed(4), "training: StartTraining(4 100)"),
            (damaged, "! ignored"),
        ]
    )
    assert story.state.damaged == ("s150a1",)
    assert story.state.restarts_used == {}


def test_a_damaged_promoted_checkpoint_gives_way_to_the_next_best() -> None:
    damaged = (ev.CheckpointDamaged, {"folder": "s200a1", "reason": "truncated"})
    play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (damaged, "deploying: Deploy(100)"),
            (
                (ev.CheckpointDamaged, {"folder": "s100a1", "reason": "truncated"}),
                "ending: TearDown, ReleaseGang, ConfirmTornDown",
            ),
            (TORN_DOWN, "ended: End(1)"),
        ]
    )


def test_damage_to_the_last_checkpoint_of_a_trained_run_means_training_again() -> None:
    damaged = (ev.CheckpointDamaged, {"folder": "s200a1", "reason": "truncated"})
    play(
        [
            *TO_STEP_200,
            (opened(), "reserving: KillTraining, ReleaseGang, ReserveGang()"),
            (damaged, "reserving: ReleaseGang, ReserveGang(4,2)"),
            (placed(0), "! refused"),
            (placed(4), "sharding: BuildStore"),
            (store(), "training: StartTraining(4 100)"),
        ]
    )


def test_the_committed_step_never_moves_back() -> None:
    play(
        [
            *TO_TRAINING,
            (committed(100, 5.9), "training: -"),
            (committed(100, 5.9), "! ignored"),
            (committed(90, 5.9), "! refused"),
            (committed(201, 5.9), "! refused"),
        ]
    )


def test_a_hang_is_a_loss_of_its_own_kind() -> None:
    story = play(TO_TRAINING)
    wait = story.state.wait
    assert wait is not None
    # A step, an evaluation and a checkpoint may each take hang_timeout, and 10 s of grace.
    assert (wait.what, wait.timeout_seconds) == ("progress of training", 3 * 600.0 + 10)
    story.tell(ev.Progressed, done=10)
    stale = (ev.Expired, {"what": wait.what, "since": wait.since})
    play([(stale, "! ignored")], story)
    assert story.state.wait is not None
    now = (ev.Expired, {"what": wait.what, "since": story.state.wait.since})
    play([(now, "reserving: KillTraining, ReleaseGang, ReserveGang(4,2)")], story)
    assert story.state.restarts_used == {"hang": 1}


def test_an_actor_without_memory_is_told_what_is_due() -> None:
    story = Story()
    expected = {
        "reserving": "KillTraining, ReleaseGang, ReserveGang(4,2)",
        "sharding": "BuildStore",
        "training": "StartTraining(4 0)",
    }
    for (kind, details), _ in TO_TRAINING[:3]:
        story.tell(kind, **details)
        assert ", ".join(map(show, due(story.state))) == expected[story.state.phase]
    story.tell(ev.TrainingStarted, step=1)
    assert due(story.state) == ()
    for step in (50, 100, 150):
        kind, details = committed(step)
        story.tell(kind, **details)
    assert ", ".join(map(show, due(story.state))) == "DeleteCheckpoints(s50a1)"
    story.tell(ev.CheckpointsDeleted, folders=("s50a1",))
    assert due(story.state) == ()


def test_what_could_not_be_confirmed_is_given_back_by_the_next_attempt() -> None:
    story = play([*TO_TRAINING[:2], (stop(), "ending: CancelStore, ReleaseGang, ConfirmTornDown")])
    wait = story.state.wait
    assert wait is not None
    expired = (ev.Expired, {"what": wait.what, "since": wait.since})
    play(
        [
            (expired, "ended: End(130)"),
            (opened(), "reserving: CancelStore, ReleaseGang, ReserveGang(4,2)"),
        ],
        story,
    )


def test_another_run_does_not_get_into_this_journal() -> None:
    story = play(TO_TRAINING)
    assert story.tell(ev.Opened, name="other", policy=PLAN) == "! refused"


def test_nothing_but_an_opening_moves_a_run_that_has_ended() -> None:
    story = play(
        [
            (opened(), "reserving: ReserveGang(4,2)"),
            (stop(), "ending: ReleaseGang, ConfirmTornDown"),
        ]
    )
    play(
        [
            (TORN_DOWN, "ended: End(130)"),
            (stop(), "! ignored"),
            (placed(4), "! ignored"),
            (committed(10), "! refused"),
            ((ev.Failed, {"exit_code": 1, "message": "late"}), "! ignored"),
        ],
        story,
    )


def test_an_empty_store_is_no_ground_to_train_on() -> None:
    play([*TO_TRAINING[:2], (store(num_samples=0), "ending: ReleaseGang, ConfirmTornDown")])
