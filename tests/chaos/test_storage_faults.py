"""Storage that refuses for a while: training goes on, and the run comes out as without it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.axis_command import Axis
from tests.chaos.disks import read_only, small_disk
from tests.chaos.test_histories import COMMON, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 700
FAULT_SECONDS = 6.0


def _start(axis: Axis) -> Any:
    process = axis.start(
        "run", *COMMON, "job=tests.chaos.paced:Paced", f"storage={axis.storage}",
        f"training.steps={STEPS}", "coordination.checkpoint.every=50",
    )  # fmt: skip
    axis.await_step("digits", 70)
    return process


def _assert_survived(axis: Axis, process: Any) -> None:
    assert process.poll() is None, axis.finish(process)
    done = axis.finish(process)
    assert done.code == 0, done
    told = [r for r in axis.metrics("digits") if r["kind"] == "not-written"]
    assert told, "the fault fired"
    print(told[0]["text"])
    assert "could not be written" in done.err
    assert axis.events("digits", "training-failed") == []
    assert {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"} == {1}
    committed = [e["checkpoint"]["step"] for e in axis.events("digits", "checkpoint-committed")]
    assert committed[-1] == STEPS
    assert_undisturbed(axis, STEPS)


def test_a_disk_that_is_full_for_a_while_costs_checkpoints_only(axis: Axis, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mb=48) as disk:
        axis.storage = disk.folder / "runs"
        process = _start(axis)
        disk.fill()
        time.sleep(FAULT_SECONDS)
        disk.empty()
        _assert_survived(axis, process)


def test_storage_that_is_read_only_for_a_while_costs_checkpoints_only(axis: Axis) -> None:
    process = _start(axis)
    with read_only(axis.storage):
        time.sleep(FAULT_SECONDS)
    _assert_survived(axis, process)
