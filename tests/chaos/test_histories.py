"""Histories of a run under Ray: a checkpoint broken off, more workers, another mesh.

Each ends with the losses of an undisturbed run and every sample once an epoch. Lost workers and
fewer workers are in ``test_losses`` and in ``scenarios``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.job_import import load_job
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.loop import train
from orchestrator.parallel.setup import TrainSetup
from orchestrator.plan.load import load_plan
from orchestrator.storage import Storage
from tests.axis_command import Axis, assert_exactly_once

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_TRAIN = 1797 - 359
BATCH = 64
COMMON = (
    "configs/digits.yaml",
    "inference=null",
    "training.log_samples=true",
    "training.schedule.decay=none",  # so that a run may be told its length piece by piece
    "training.optimizer.lr=1e-3",  # the plan's own is so large that rounding grows to 2 % by then
)


def losses(axis: Axis, run: str) -> dict[int, float]:
    """Step → loss, of the attempt that took the step last."""
    return {r["step"]: r["loss"] for r in axis.metrics(run) if r["kind"] == "step"}


def undisturbed(axis: Axis, steps: int, *more: str) -> dict[int, float]:
    """The same, of one worker without Ray, in this process, on the same samples."""
    plan = load_plan(
        COMMON[0], [*COMMON[1:], *more, f"training.steps={steps}", "training.workers=1"]
    ).plan
    store = axis.events("digits", "store-ready")[0]["store"]["folder"]
    run = Storage.open(str(axis.storage / "baseline"))
    channel = LocalChannel(run, 1, 0)
    train(TrainSetup(plan, load_job(plan), Storage.open(store), run, 1), channel)
    lines = (axis.storage / "baseline" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["step"]: r["loss"] for r in records if r["kind"] == "step"}


def assert_undisturbed(axis: Axis, steps: int, *more: str) -> None:
    assert losses(axis, "digits") == pytest.approx(undisturbed(axis, steps, *more), rel=1e-4)
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, steps, BATCH)


def test_a_checkpoint_that_was_broken_off_does_not_exist(axis: Axis, tmp_path: Path) -> None:
    """Killed with all files written and no manifest: the one before it is where it goes on."""
    steps, mark = 90, tmp_path / "fired"
    broken = axis.storage / "digits" / "checkpoints" / "step-00000060-attempt-0001"
    job = ("job=tests.chaos.broken_off:BrokenOff",
           f"options={{checkpoint: '{broken}', mark: '{mark}'}}")  # fmt: skip
    done = axis("run", *COMMON, *job, f"storage={axis.storage}", f"training.steps={steps}",
                "coordination.checkpoint.every=30")  # fmt: skip
    assert done.code == 0, done
    assert mark.exists(), "the fault fired"
    assert [event["cause"] for event in axis.events("digits", "training-failed")] == ["worker"]
    committed = [
        (event["checkpoint"]["step"], event["checkpoint"]["attempt"])
        for event in axis.events("digits", "checkpoint-committed")
    ]
    assert committed == [(30, 1), (60, 2), (90, 2)]
    assert not (broken / "manifest.json").exists()
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2]
    assert min(again) == 31
    assert_undisturbed(axis, steps)


def test_a_run_grows_onto_another_mesh(axis: Axis) -> None:
    """One worker, then two that each hold half of the parameters: one run."""
    for steps, more in (
        (40, ("training.workers=1",)),
        (80, ("training.workers=2", "model.replicate=1", "model.shard=2")),
    ):
        done = axis("run", *COMMON, f"storage={axis.storage}", *more, f"training.steps={steps}")
        assert done.code == 0, done
    meshes = [
        json.loads((path / "manifest.json").read_text())["mesh"]
        for path in sorted((axis.storage / "digits" / "checkpoints").iterdir())
    ]
    assert [(mesh["replicate"], mesh["shard"]) for mesh in meshes] == [(1, 1), (1, 2)]
    assert_undisturbed(axis, 80)
