"""Which checkpoint is served, and the sentence that says why or why not."""

from __future__ import annotations

import math

import pytest

from orchestrator.coordinator.policy import Promotion, policy_of
from orchestrator.coordinator.promotion import judge
from orchestrator.coordinator.state import CheckpointRecord
from orchestrator.plan.plan import Plan

pytestmark = pytest.mark.unit


def record(step: int, **metrics: float) -> CheckpointRecord:
    return CheckpointRecord(step=step, attempt=1, folder=f"s{step}", metrics=metrics)


THREE = [
    record(100, val_loss=6.5, val_accuracy=0.7),
    record(150, val_loss=6.31, val_accuracy=0.6),
    record(200, val_loss=6.4, val_accuracy=0.9),
]


@pytest.mark.parametrize(
    ("promotion", "step", "reason"),
    [
        (
            Promotion(metric="val_loss", mode="min"),
            150,
            "val_loss 6.31 (no gate) at step 150; best of 3 checkpoints by val_loss",
        ),
        (
            Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=6.0),
            None,
            "val_loss 6.31 is not below 6.0 at step 150; best of 3 checkpoints",
        ),
        (
            Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=6.31),
            None,
            "val_loss 6.31 is not below 6.31 at step 150; best of 3 checkpoints",
        ),
        (
            Promotion(metric="val_accuracy", mode="max", gate_metric="val_accuracy", above=0.95),
            None,
            "val_accuracy 0.9 is not above 0.95 at step 200; best of 3 checkpoints",
        ),
        (
            Promotion(metric="val_loss", mode="min", gate_metric="val_accuracy", above=0.5),
            150,
            "val_accuracy 0.6 is above 0.5 at step 150; best of 3 checkpoints by val_loss",
        ),
        (
            Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=7.0, above=6.35),
            None,
            "val_loss 6.31 is not above 6.35 at step 150; best of 3 checkpoints",
        ),
        (
            Promotion(metric="val_loss", mode="min", gate_metric="val_f1", above=0.5),
            None,
            "the gate asks for val_f1, which is missing or not finite at step 150; "
            "best of 3 checkpoints",
        ),
        (
            Promotion(metric="val_f1", mode="max"),
            200,
            "no checkpoint has a finite val_f1 (metrics of the newest: val_accuracy, val_loss); "
            "the newest, of step 200, is taken",
        ),
        (
            Promotion(metric="val_f1", mode="max", gate_metric="val_f1", above=0.5),
            None,
            "no checkpoint has a finite val_f1 (metrics of the newest: val_accuracy, val_loss), "
            "so the gate cannot be judged",
        ),
    ],
)
def test_the_verdict_shows_its_arithmetic(
    promotion: Promotion, step: int | None, reason: str
) -> None:
    verdict = judge(THREE, promotion, 3)
    assert (verdict.promoted.step if verdict.promoted else None) == step
    assert verdict.reason == reason


def test_a_loss_that_became_nan_is_never_the_best() -> None:
    promotion = Promotion(metric="val_loss", mode="max")
    verdict = judge([record(1, val_loss=1.0), record(2, val_loss=math.nan)], promotion, 2)
    assert verdict.promoted is not None
    assert verdict.promoted.step == 1


def test_without_checkpoints_there_is_nothing_to_promote() -> None:
    assert judge([], Promotion(metric="val_loss", mode="min"), 0).promoted is None


def test_the_policy_is_the_plan_s() -> None:
    plan = Plan.model_validate(
        {
            "name": "digits",
            "job": "jobs.digits:Digits",
            "data": {"source": {"kind": "text", "path": "x"}},
            "training": {"workers": [2, 4], "steps": 50},
            "inference": {
                "replicas": [1, 3],
                "example": {"pixels": []},
                "timeout": "30s",
                "promote": {"metric": "val_accuracy", "mode": "max", "when": {"above": 0.9}},
            },
            "coordination": {
                "gang": {"timeout": "1m"},
                "checkpoint": {"keep": 5},
                "restarts": {"oom": 3},
            },
        }
    )
    policy = policy_of(plan, workers=(2, 4), keep_serving="attached")
    assert policy.workers == (4, 2)
    assert (policy.steps, policy.keep, policy.replicas, policy.has_example) == (50, 5, 1, True)
    assert (policy.gang_timeout_seconds, policy.serve_timeout_seconds) == (60.0, 30.0)
    assert policy.restarts == {
        "preemption": -1,
        "node": 10,
        "worker": 5,
        "oom": 3,
        "hang": 2,
        "user": 0,
    }
    assert policy.promotion == Promotion(
        metric="val_accuracy", mode="max", gate_metric="val_loss", above=0.9
    )
    with pytest.raises(ValueError, match="no legal worker count"):
        policy_of(plan, workers=())
