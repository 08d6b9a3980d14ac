"""Faults while the digits job trains: each fires, and the run comes out as without it."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.axis_command import Axis, assert_exactly_once, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.timeout(300)]

NUM_TRAIN = 1797 - 359
BATCH = 64
STEPS = 1200
COMMON = ("configs/digits.yaml", "inference=null", "training.log_samples=true")


def _start(axis: Axis, *more: str) -> object:
    storage = f"storage={axis.storage}"
    every = "coordination.checkpoint.every=100"
    return axis.start("run", *COMMON, storage, every, f"training.steps={STEPS}", *more)


def _losses(axis: Axis) -> dict[int, float]:
    """Step → loss, of the attempt that took the step last."""
    return {r["step"]: r["loss"] for r in axis.metrics("digits") if r["kind"] == "step"}


def _assert_uninterrupted_curve(axis: Axis) -> None:
    """The losses are those of a run without faults, from the same store and seed."""
    baseline = axis(
        "run", *COMMON, f"storage={axis.storage}", f"training.steps={STEPS}", "name=baseline"
    )
    assert baseline.code == 0, baseline
    expected = {r["step"]: r["loss"] for r in axis.metrics("baseline") if r["kind"] == "step"}
    found = _losses(axis)
    assert sorted(found) == sorted(expected)
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, rel=1e-4), step


def test_a_killed_worker_costs_only_the_steps_since_the_last_checkpoint(axis: Axis) -> None:
    process = _start(axis)
    axis.await_step("digits", 120)
    victim = next(r for r in axis.metrics("digits") if r["kind"] == "worker" and r["rank"] == 1)
    os.kill(victim["pid"], signal.SIGKILL)
    done = axis.finish(process, timeout=200)
    assert done.code == 0, done

    failed = axis.events("digits", "training-failed")
    assert [event["cause"] for event in failed] == ["worker"], failed
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert (view["attempt"], view["num_restarts"]) == (2, 1)
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)
    _assert_uninterrupted_curve(axis)


def test_a_killed_driver_leaves_a_run_that_the_same_command_resumes(axis: Axis) -> None:
    process = _start(axis)
    axis.await_step("digits", 120)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert view["status"] == "lost"
    assert view["committed_step"] >= 100

    done = axis.finish(_start(axis), timeout=200)
    assert done.code == 0, done
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2]
    # Workers outlive their driver for some seconds, and what they commit then counts.
    kept = [
        event["checkpoint"]["step"]
        for event in axis.events("digits", "checkpoint-committed")
        if event["attempt"] == 1
    ]
    assert min(again) == max(kept) + 1
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)


def test_a_killed_coordinator_comes_back_and_the_run_goes_on(axis: Axis) -> None:
    import psutil

    process = _start(axis, "training.steps=4000")
    axis.await_step("digits", 120)

    def coordinators() -> list[int]:
        return [
            p.pid
            for p in psutil.process_iter(["cmdline"])
            if p.info["cmdline"] and "ray::Coordinator" in p.info["cmdline"][0]
        ]

    before = coordinators()
    assert len(before) == 1
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: coordinators() not in ([], before), 30, "a new coordinator")
    done = axis.finish(process, timeout=200)
    assert done.code == 0, done
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, 4000, BATCH)
    attempts = {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"}
    assert attempts == {1}, "training did not stop for it"
