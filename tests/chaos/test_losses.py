"""Faults while the digits job trains: each fires, and the run comes out as without it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, assert_exactly_once, wait_until
from tests.chaos.test_histories import BATCH, COMMON, NUM_TRAIN, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.timeout(900)]

STEPS = 200
PACED = ("job=tests.chaos.paced:Paced", "coordination.checkpoint.every=50")


def _start(axis: Axis, *more: str) -> Any:
    return axis.start(
        "run", *COMMON, *PACED, f"storage={axis.storage}", f"training.steps={STEPS}", *more
    )


def test_a_killed_worker_costs_only_the_steps_since_the_last_checkpoint(
    axis: Axis, tmp_path: Path
) -> None:
    mark = tmp_path / "fired"
    done = axis.finish(_start(axis, f"options={{mark: '{mark}', rank: 1, after: 70}}"))
    assert done.code == 0, done
    assert mark.exists(), "the fault fired"
    (failed,) = axis.events("digits", "training-failed")
    assert (failed["cause"], failed["rank"]) == ("worker", 1)
    assert failed["message"].startswith("worker 1")
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert (view["attempt"], view["num_restarts"]) == (2, 1)
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2]
    assert min(again) == 51
    assert_undisturbed(axis, STEPS)


@pytest.mark.slow
def test_a_killed_driver_leaves_a_run_that_the_same_command_resumes(axis: Axis) -> None:
    process = _start(axis)
    axis.await_step("digits", 70)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert view["status"] == "lost"
    assert view["committed_step"] >= 50

    done = axis.finish(_start(axis))
    assert done.code == 0, done
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2]
    # Workers outlive their driver for some seconds, and what they commit then counts.
    kept = [
        event["checkpoint"]["step"]
        for event in axis.events("digits", "checkpoint-committed")
        if event["attempt"] == 1
    ]
    assert min(again) == max(kept) + 1
    assert_undisturbed(axis, STEPS)


def _coordinators() -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and "ray::Coordinator" in process.info["cmdline"][0]
    ]


def test_a_killed_coordinator_comes_back_and_the_run_goes_on(axis: Axis) -> None:
    process = _start(axis, "options={seconds: 0.04}")
    axis.await_step("digits", 30)
    before = _coordinators()
    assert len(before) == 1
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: _coordinators() not in ([], before), PATIENCE_SECONDS, "a new coordinator")
    assert process.poll() is None, "it came while the run was at work"
    done = axis.finish(process)
    assert done.code == 0, done
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)
    attempts = {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"}
    assert attempts == {1}, "training did not stop for it"
