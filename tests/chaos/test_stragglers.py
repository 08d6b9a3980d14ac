"""A worker that gets a share of a core is named, and the run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.chaos.test_histories import COMMON

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

_CPU = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def slow_lane() -> Iterator[Path]:
    """A control group that lets a process run for a fifth of the time."""
    group = _CPU / f"axis-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text("50000")
        (group / "cpu.cfs_quota_us").write_text("10000")
    except OSError as error:
        pytest.skip(f"no control group for processor time can be made: {error}")
    yield group
    for pid in (group / "tasks").read_text().split():
        (_CPU / "tasks").write_text(pid)
    group.rmdir()


def test_a_worker_that_is_throttled_is_named_with_its_rank(axis: Axis, slow_lane: Path) -> None:
    process = axis.start(
        "run", *COMMON, f"storage={axis.storage}", "training.steps=1500",
        "options={channels: 64}", "coordination.checkpoint.every=500",
    )  # fmt: skip
    axis.await_step("digits", 60)
    victim = next(r for r in axis.metrics("digits") if r["kind"] == "worker" and r["rank"] == 1)
    for task in Path(f"/proc/{victim['pid']}/task").iterdir():
        (slow_lane / "tasks").write_text(task.name)
    wait_until(
        lambda: bool(axis.events("digits", "straggler")),
        PATIENCE_SECONDS,
        "the slow worker to be named",
    )
    for pid in (slow_lane / "tasks").read_text().split():
        (_CPU / "tasks").write_text(pid)
    done = axis.finish(process)
    assert done.code == 0, done
    # Others may be named later, and rightly so, on a machine that is busy with something else.
    named = axis.events("digits", "straggler")[0]
    assert (named["rank"], named["node"]) == (1, victim["node"])
    assert named["ratio"] > 1.5
    assert named["text"] in done.err
    assert axis.events("digits", "training-failed") == []
