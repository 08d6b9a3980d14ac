"""Processes that are up before they are needed are used, and are gone with their run."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.chaos.test_histories import COMMON

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 12_000


def _waiting_workers(axis: Axis) -> set[int]:
    """Worker processes of Ray Train beneath this run's driver that have no rank."""
    ranked = {r["pid"] for r in axis.metrics("digits") if r["kind"] == "worker"}
    driver = psutil.Process(axis.started[-1].pid)
    return {
        process.pid
        for process in driver.children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline()) and process.pid not in ranked
    }


def test_a_lost_worker_is_replaced_by_those_that_waited(axis: Axis) -> None:
    process = axis.start(
        "run", *COMMON, f"storage={axis.storage}", f"training.steps={STEPS}",
        "coordination.checkpoint.every=500",
    )  # fmt: skip
    axis.await_step("digits", 50)
    wait_until(lambda: len(_waiting_workers(axis)) == 2, PATIENCE_SECONDS, "two standbys")
    standbys = _waiting_workers(axis)
    time.sleep(10)  # they import everything
    victim = next(r for r in axis.metrics("digits") if r["kind"] == "worker" and r["rank"] == 1)
    os.kill(victim["pid"], signal.SIGKILL)
    killed_at = time.time()
    done = axis.finish(process)
    assert done.code == 0, done
    again = [r for r in axis.metrics("digits") if r["kind"] == "worker" and r["attempt"] == 2]
    assert {r["pid"] for r in again} == standbys
    first = next(r for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2)
    print(f"back after {first['at_seconds'] - killed_at:.2f} s")
    assert axis.events("digits", "training-failed")[0]["cause"] == "worker"


def test_a_run_can_be_without(axis: Axis) -> None:
    process = axis.start(
        "run", *COMMON, f"storage={axis.storage}", f"training.steps={STEPS}",
        "coordination.standby=false",
    )  # fmt: skip
    axis.await_step("digits", 50)
    time.sleep(15)
    assert process.poll() is None, "it is still at work"
    assert _waiting_workers(axis) == set()
    process.send_signal(signal.SIGTERM)
    assert axis.finish(process).code == 6
