"""A worker that hangs, and one that is stopped: named with process and stack, and restarted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, assert_exactly_once, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.timeout(900)]

NUM_TRAIN = 1797 - 359
BATCH = 64
STEPS = 150
COMMON = (
    "configs/digits.yaml",
    "inference=null",
    "training.log_samples=true",
    f"training.steps={STEPS}",
    "coordination.checkpoint.every=50",
    "coordination.hang_timeout=3s",
)


def _gone(pid: int) -> bool:
    if not psutil.pid_exists(pid):
        return True
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_worker_that_hangs_in_the_job_s_code_is_named_with_its_line(
    axis: Axis, tmp_path: Path
) -> None:
    mark = tmp_path / "hung"
    job = ("job=tests.chaos.hanging:Hanging", f"options={{mark: '{mark}'}}")
    done = axis("run", *COMMON, *job, f"storage={axis.storage}")
    assert done.code == 0, done
    assert mark.exists(), "the fault fired"
    (failed,) = axis.events("digits", "training-failed")
    hung = next(
        r for r in axis.metrics("digits")
        if r["kind"] == "worker" and r["rank"] == 1 and r["attempt"] == 1
    )  # fmt: skip
    assert (failed["cause"], failed["rank"], failed["pid"]) == ("hang", 1, hung["pid"])
    assert hung["node"].startswith(failed["node"].split("(")[1].rstrip(")"))
    line = 1 + next(
        number for number, text in enumerate(
            Path("tests/chaos/hanging.py").read_text().splitlines()
        ) if "hangs here" in text
    )  # fmt: skip
    assert f"hanging.py:{line} in loss; the others wait for it" in failed["message"]
    assert "forward and backward" in failed["message"]
    assert "time.sleep(1.0)  # hangs here" in failed["user_traceback"]
    logs = axis("logs", "digits", "--storage", str(axis.storage), "--attempt", "1")
    for said in (done.err, logs.out):
        assert f"worker 1 (pid {hung['pid']} on node" in said
        assert "# hangs here" in said
    assert failed["message"] in " ".join(done.out.split())
    assert _gone(hung["pid"])
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)


@pytest.mark.slow
def test_a_stopped_worker_is_named_and_really_goes_away(axis: Axis) -> None:
    process = axis.start("run", *COMMON, f"storage={axis.storage}", "training.steps=1500")
    axis.await_step("digits", 60)
    victim = next(r for r in axis.metrics("digits") if r["kind"] == "worker" and r["rank"] == 1)
    os.kill(victim["pid"], signal.SIGSTOP)
    try:
        wait_until(
            lambda: _gone(victim["pid"]), PATIENCE_SECONDS, "the stopped worker to be killed"
        )
    finally:
        if not _gone(victim["pid"]):
            os.kill(victim["pid"], signal.SIGKILL)
    done = axis.finish(process)
    assert done.code == 0, done
    (failed,) = axis.events("digits", "training-failed")
    assert (failed["cause"], failed["rank"], failed["pid"]) == ("hang", 1, victim["pid"])
    assert "did not say where it is when asked" in failed["message"]
    assert "could be had" not in failed["message"]
    assert "in train" in failed["user_traceback"], "its own stack, taken from outside"
    assert failed["message"] in " ".join(done.out.split())
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, 1500, BATCH)
