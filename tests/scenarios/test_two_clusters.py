"""A run goes on where another cluster was lost: at once, and in spite of one that comes back.

This is what a RayJob's retry does: a new cluster for each, and the old one may not be gone.
"""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.axis_command import PATIENCE_SECONDS, ROOT, Axis, assert_exactly_once, wait_until
from tests.token_cluster import TokenCluster, token_cluster

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_TRAIN = 1438
BATCH = 64


@pytest.fixture
def workstation(axis: Axis, tmp_path: Path) -> Axis:
    place = tmp_path / "workstation"
    for name in ("jobs", "configs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    axis.cwd = place
    axis.environment["PYTHONPATH"] = str(ROOT)
    axis.environment.pop("RAY_ADDRESS", None)
    return axis


def _submit(axis: Axis, cluster: TokenCluster, steps: int, *more: str) -> tuple[str, ...]:
    axis.environment.update(cluster.client)
    return (
        "submit", "configs/digits.yaml", "--address", cluster.url, f"storage={axis.storage}",
        "inference=null", "training.log_samples=true", "coordination.checkpoint.every=20",
        f"training.steps={steps}", *more,
    )  # fmt: skip


def _committed(axis: Axis) -> list[int]:
    events = axis.events("digits", "checkpoint-committed")
    return [event["checkpoint"]["step"] for event in events]


def _await_checkpoint(axis: Axis) -> None:
    wait_until(lambda: bool(_committed(axis)), PATIENCE_SECONDS, "a checkpoint")


def _is_still(process: psutil.Process) -> bool:
    """Whether a process is stopped, or none any more."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _assert_went_on(axis: Axis, steps: int) -> None:
    """Attempt by attempt from the last checkpoint, and every sample once."""
    events = axis.events("digits", "checkpoint-committed")
    last = max(e["checkpoint"]["step"] for e in events if e["checkpoint"]["attempt"] == 1)
    taken = [r for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] > 1]
    assert min(r["step"] for r in taken) == last + 1
    assert max(r["step"] for r in taken) == steps
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, steps, BATCH)


def test_the_next_cluster_goes_on_at_once(workstation: Axis) -> None:
    """The first is killed without a word, head and all; nobody waits for a lease to run out."""
    with token_cluster() as first:
        sent = workstation(*_submit(workstation, first, 100_000, "--detach"))
        assert sent.code == 0, sent
        _await_checkpoint(workstation)
        assert len(first.kill()) > 5, "the fault fired"
        steps = max(_committed(workstation)) + 40
    with token_cluster() as second:
        done = workstation(*_submit(workstation, second, steps))
    assert done.code == 0, done
    assert "axis-digits-0002: done (exit code 0)" in done.err
    _assert_went_on(workstation, steps)


def test_a_cluster_that_comes_back_is_fenced(workstation: Axis) -> None:
    """Frozen, not dead, while the next one takes the run over; then it moves again."""
    with token_cluster() as first, token_cluster() as second:
        sent = workstation(*_submit(workstation, first, 100_000, "--detach"))
        assert sent.code == 0, sent
        _await_checkpoint(workstation)
        frozen = first.processes()
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: all(map(_is_still, frozen)), 20, "all processes to stand still")
            taken = len(workstation.metrics("digits"))
            time.sleep(2.0)
            assert len(workstation.metrics("digits")) == taken, "the fault fired"
            steps = max(_committed(workstation)) + 300
            running = workstation.start(*_submit(workstation, second, steps))
            wait_until(
                lambda: any(r["attempt"] > 1 for r in workstation.metrics("digits")),
                PATIENCE_SECONDS, "the second attempt",
            )  # fmt: skip
        finally:
            for process in reversed(frozen):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
        done = workstation.finish(running)
        assert done.code == 0, done
        job = f"{first.url}/api/jobs/axis-digits-0001"
        wait_until(
            lambda: httpx.get(job, headers=first.headers, timeout=30).json()["status"]
            in ("FAILED", "STOPPED"),
            PATIENCE_SECONDS, "the first attempt to end",
        )  # fmt: skip
    late = [e["checkpoint"] for e in workstation.events("digits", "checkpoint-committed")]
    second_began = next(i for i, each in enumerate(late) if each["attempt"] > 1)
    assert all(each["attempt"] > 1 for each in late[second_began:]), "it committed nothing more"
    _assert_went_on(workstation, steps)
