"""Processes that are up before they are needed are used, and are gone with their run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.chaos.test_histories import COMMON

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 2_000
PACED = "job=tests.chaos.paced:Paced"


def _waiting_workers(axis: Axis) -> set[int]:
    """Worker processes of Ray Train beneath this run's driver that have no rank."""
    ranked = {r["pid"] for r in axis.metrics("digits") if r["kind"] == "worker"}
    driver = psutil.Process(axis.started[-1].pid)
    return {
        process.pid
        for process in driver.children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline()) and process.pid not in ranked
    }


def _has_imported(pid: int) -> bool:
    """Torch is there, and the process has come to rest."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return "libtorch_cpu" in maps and psutil.Process(pid).cpu_percent(interval=0.5) < 20.0


def _stepped_seconds(axis: Axis) -> float:
    at = [r["at_seconds"] for r in axis.metrics("digits") if r["kind"] == "step"]
    return at[-1] - at[0] if at else 0.0


def test_a_lost_worker_is_replaced_by_those_that_waited(axis: Axis) -> None:
    process = axis.start(
        "run", *COMMON, PACED, f"storage={axis.storage}", f"training.steps={STEPS}",
        "coordination.checkpoint.every=500", "coordination.standby_after=5s",
    )  # fmt: skip
    axis.await_step("digits", 50)
    wait_until(lambda: len(_waiting_workers(axis)) == 2, PATIENCE_SECONDS, "two standbys")
    standbys = _waiting_workers(axis)
    wait_until(lambda: all(map(_has_imported, standbys)), PATIENCE_SECONDS, "their imports")
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
        "run", *COMMON, PACED, f"storage={axis.storage}", f"training.steps={STEPS}",
        "coordination.standby=false", "coordination.standby_after=5s",
    )  # fmt: skip
    wait_until(lambda: _stepped_seconds(axis) > 15, PATIENCE_SECONDS, "15 s of steps")
    assert process.poll() is None, "it is still at work"
    assert _waiting_workers(axis) == set()
    process.send_signal(signal.SIGTERM)
    assert axis.finish(process).code == 6
