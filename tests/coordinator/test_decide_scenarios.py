"""Runs that go well, are stopped, serve and are resumed; told as tables (``story``)."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.policy import Promotion
from orchestrator.coordinator.state import Outcome
from tests.coordinator.story import (
    ANSWERED,
    DEPLOYED,
    TO_STEP_200,
    TO_TRAINING,
    TORN_DOWN,
    URL,
    Rows,
    Story,
    committed,
    ended,
    opened,
    placed,
    play,
    started,
    stop,
    store,
)

pytestmark = pytest.mark.unit


def test_from_the_first_bundle_to_the_answer() -> None:
    story = play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (DEPLOYED, "serving: SendExample"),
            (ANSWERED, "ending: TearDown, ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(0)"),
        ]
    )
    assert story.state.outcome == Outcome(
        exit_code=0, message=f"trained, served step 200 at {URL} and took it down again"
    )
    assert story.state.promotion_reason == (
        "val_loss 5.5 is below 6.0 at step 200; best of 2 checkpoints by val_loss"
    )
    assert story.state.url is None


def test_without_an_inference_axis_training_is_all() -> None:
    story = Story()
    play([(opened(promotion=None), "reserving: ReserveGang(4,2)"), *TO_STEP_200[1:]], story)
    play([(ended(), "ending: ReleaseGang, ConfirmTornDown"), (TORN_DOWN, "ended: End(0)")], story)


def test_a_gate_that_is_not_met_ends_with_the_arithmetic() -> None:
    story = play(
        [
            *TO_TRAINING,
            (committed(100, 6.42), "training: -"),
            (committed(150, 6.35), "training: -"),
            (committed(200, 6.31), "training: DeleteCheckpoints(s100a1)"),
            (ended(), "ending: ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(7)"),
        ]
    )
    assert story.state.outcome is not None
    assert story.state.outcome.message == (
        "val_loss 6.31 is not below 6.0 at step 200; best of 3 checkpoints"
    )


def test_the_best_checkpoint_is_promoted_not_the_last() -> None:
    play(
        [
            *TO_TRAINING,
            (committed(50, 5.0), "training: -"),
            (committed(100, 5.8), "training: -"),
            (committed(150, 5.7), "training: -"),
            (committed(200, 5.6), "training: DeleteCheckpoints(s100a1)"),
            (ended(), "deploying: Deploy(50)"),
        ]
    )


def test_ctrl_c_while_training_takes_a_last_checkpoint() -> None:
    story = play(
        [
            *TO_TRAINING,
            (stop("ctrl-c"), "stopping: StopTraining"),
            (stop("request"), "! ignored"),
            (committed(42), "stopping: -"),
            (ended(42, stopped=True), "ending: ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(130)"),
        ]
    )
    assert story.state.committed_step == 42


def test_a_second_ctrl_c_does_not_wait_for_the_checkpoint() -> None:
    play(
        [
            *TO_TRAINING,
            (stop("ctrl-c"), "stopping: StopTraining"),
            (stop("ctrl-c"), "ending: KillTraining, ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(130)"),
        ]
    )


@pytest.mark.parametrize(("by", "code"), [("ctrl-c", 130), ("request", 6), ("sigterm", 6)])
@pytest.mark.parametrize(
    ("until", "cleared"),
    [
        (1, "ReleaseGang, ConfirmTornDown"),
        (2, "CancelStore, ReleaseGang, ConfirmTornDown"),
        (3, "KillTraining, ReleaseGang, ConfirmTornDown"),
    ],
)
def test_a_stop_before_the_first_step_just_clears_away(
    by: str, code: int, until: int, cleared: str
) -> None:
    play(
        [
            *TO_TRAINING[:until],
            (stop(by), f"ending: {cleared}"),
            (TORN_DOWN, f"ended: End({code})"),
        ]
    )


def test_a_stop_whose_checkpoint_never_comes_ends_all_the_same() -> None:
    story = play([*TO_TRAINING, (stop("request"), "stopping: StopTraining")])
    wait = story.state.wait
    assert wait is not None
    assert wait.what == "the workers' last checkpoint"
    play(
        [
            (
                (ev.Expired, {"what": wait.what, "since": wait.since}),
                "ending: KillTraining, ReleaseGang, ConfirmTornDown",
            ),
            (TORN_DOWN, "ended: End(6)"),
        ],
        story,
    )


def test_resuming_a_trained_run_goes_straight_to_promotion() -> None:
    story = play(
        [
            *TO_STEP_200,
            (stop(), "stopping: StopTraining"),
            (ended(200), "ending: ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(130)"),
            (opened(), "reserving: ReserveGang()"),
            (placed(0), "deploying: Deploy(200)"),
        ]
    )
    assert story.state.attempt == 2


def test_a_trained_run_reserves_nothing_where_serve_places_its_own_replicas() -> None:
    trained: Rows = [
        (opened(release_before_deploy=True), "reserving: ReserveGang(4,2)"),
        *TO_STEP_200[1:],
        (ended(), "deploying: ReleaseGang, Deploy(200)"),
        (DEPLOYED, "serving: SendExample"),
        (ANSWERED, "ending: TearDown, ConfirmTornDown"),
        (TORN_DOWN, "ended: End(0)"),
    ]
    story = play(trained)
    play([(opened(release_before_deploy=True), "deploying: Deploy(200)")], story)


def test_a_trained_run_with_an_unmet_gate_says_so_without_reserving() -> None:
    story = play([*TO_STEP_200, (opened(), "reserving: KillTraining, ReleaseGang, ReserveGang()")])
    play([(stop(), "ending: ReleaseGang, ConfirmTornDown"), (TORN_DOWN, "ended: End(130)")], story)
    strict = Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=1.0)
    play([(opened(promotion=strict), "ended: End(7)")], story)


def test_more_steps_train_further_from_where_the_run_ended() -> None:
    story = play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (stop(), "ending: TearDown, ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(130)"),
        ]
    )
    play(
        [
            (opened(steps=400), "reserving: ReserveGang(4,2)"),
            (placed(2), "sharding: BuildStore"),
            (store(), "training: StartTraining(2 200)"),
        ],
        story,
    )


def test_a_kept_app_serves_until_somebody_stops_it() -> None:
    story = play(
        [
            (opened(keep_serving="attached"), "reserving: ReserveGang(4,2)"),
            *TO_STEP_200[1:],
            (ended(), "deploying: Deploy(200)"),
            (DEPLOYED, "serving: SendExample"),
            (ANSWERED, "serving: -"),
            (stop("ctrl-c"), "ending: TearDown, ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(0)"),
        ]
    )
    assert story.state.url is None


def test_a_detached_app_is_left_up() -> None:
    story = play(
        [
            (opened(keep_serving="detached", has_example=False), "reserving: ReserveGang(4,2)"),
            *TO_STEP_200[1:],
            (ended(), "deploying: Deploy(200)"),
            (DEPLOYED, "ending: ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(0)"),
        ]
    )
    assert (story.state.app, story.state.url) == ("left", URL)
    assert story.last is not None
    assert story.last.actions[-1] == act.End(
        exit_code=0, message=f"trained; step 200 is being served at {URL}", app_left=True
    )
    # The served checkpoint outlives retention while a later attempt trains on.
    play(
        [
            (opened(steps=500), "reserving: ReserveGang(4,2)"),
            (placed(4), "sharding: BuildStore"),
            (store(), "training: StartTraining(4 200)"),
            (started(201), "training: -"),
            (committed(300, 5.0, attempt=2), "training: DeleteCheckpoints(s100a1)"),
            (committed(400, 4.9, attempt=2), "training: -"),
            (committed(450, 4.8, attempt=2), "training: DeleteCheckpoints(s300a2)"),
        ],
        story,
    )
    assert "s200a1" in [record.folder for record in story.state.committed]


@pytest.mark.parametrize(
    "event",
    [
        (ev.DeployFailed, {"message": "port 8000 is in use"}),
        (ev.Failed, {"exit_code": 1, "message": "port 8000 is in use"}),
    ],
)
def test_an_app_that_does_not_come_up_is_cleared_away(event: tuple[type, dict[str, Any]]) -> None:
    play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (event, "ending: TearDown, ReleaseGang, ConfirmTornDown"),
            (TORN_DOWN, "ended: End(1)"),
        ]
    )


def test_an_app_that_does_not_answer_fails_the_run() -> None:
    play(
        [
            *TO_STEP_200,
            (ended(), "deploying: Deploy(200)"),
            (DEPLOYED, "serving: SendExample"),
            (
                (ev.ExampleFailed, {"message": "status 500"}),
                "ending: TearDown, ReleaseGang, ConfirmTornDown",
            ),
        ]
    )
