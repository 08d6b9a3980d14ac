"""The head of the cluster is lost: for seconds, with what it knew on disk, or for good."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.axis_command import Axis, assert_exactly_once
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import BATCH, COMMON, NUM_TRAIN, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 600


def _start(axis: Axis, cluster: Raylets) -> Any:
    return axis.start(
        "run", *COMMON, "job=tests.chaos.paced:Paced", f"storage={axis.storage}",
        f"training.steps={STEPS}", "coordination.checkpoint.every=50",
        "training.workers=2", "training.resources.cpu=1", "--address", cluster.address,
    )  # fmt: skip


def test_a_control_store_that_comes_back_is_waited_for(
    axis: Axis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``RAY_gcs_storage=rocksdb`` it knows what it knew; training does not stop for it."""
    monkeypatch.setenv("RAY_gcs_storage", "rocksdb")
    monkeypatch.setenv("RAY_gcs_storage_path", str(tmp_path / "gcs"))
    with raylets(num_cpus=2) as cluster:
        process = _start(axis, cluster)
        axis.await_step("digits", 70)
        with cluster.without_control_store():
            time.sleep(5.0)
        done = axis.finish(process)
    assert done.code == 0, done
    assert axis.events("digits", "training-failed") == []
    assert {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"} == {1}
    assert_undisturbed(axis, STEPS)


def test_a_run_goes_on_on_the_cluster_after_the_one_that_was_lost(axis: Axis) -> None:
    """The head's memory is gone, and everything with it; the same command resumes elsewhere."""
    with raylets(num_cpus=2) as cluster:
        process = _start(axis, cluster)
        axis.await_step("digits", 120)
        cluster.lose_head()
        lost = axis.finish(process)
    assert lost.code not in (0, None), lost
    assert "Traceback" not in lost.err, lost
    kept = [e["checkpoint"]["step"] for e in axis.events("digits", "checkpoint-committed")]
    assert kept[-1] >= 100
    with raylets(num_cpus=2) as cluster:
        done = axis.finish(_start(axis, cluster))
    assert done.code == 0, done
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2]
    assert min(again) == kept[-1] + 1, "nothing that was committed is lost"
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)
    assert_undisturbed(axis, STEPS)
