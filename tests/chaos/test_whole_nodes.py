"""All workers of a node at once; another who wants the room of a lost one; an end in time."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.axis_command import Axis
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import COMMON, assert_undisturbed
from tests.chaos.test_node_losses import placed_workers, workers_of

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 400


def _start(axis: Axis, cluster: Raylets, *more: str) -> Any:
    process = axis.start(
        "run", *COMMON, "job=tests.chaos.paced:Paced", f"storage={axis.storage}",
        f"training.steps={STEPS}", "coordination.checkpoint.every=50",
        "training.resources.cpu=1", "--address", cluster.address, *more,
    )  # fmt: skip
    axis.await_step("digits", 70)
    return process


def test_all_workers_of_a_node_die_and_the_node_stays(axis: Axis) -> None:
    with raylets(num_cpus=2) as cluster:
        cluster.add(num_cpus=2)
        process = _start(axis, cluster, "training.workers=4")
        seats = workers_of(axis, 1)
        node = seats[3]["node"]
        victims = [seat["pid"] for seat in seats.values() if seat["node"] == node]
        assert len(victims) == 2
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        done = axis.finish(process)
    assert done.code == 0, done
    (failed,) = axis.events("digits", "training-failed")
    assert failed["cause"] == "worker", "the node is there"
    assert placed_workers(axis) == [4, 4]
    assert_undisturbed(axis, STEPS)


def test_the_room_of_a_lost_worker_stays_the_run_s(axis: Axis) -> None:
    """Also where somebody outside the coordinator has stood in line for it."""
    from ray.util.placement_group import placement_group

    with raylets(num_cpus=2) as cluster:
        process = _start(axis, cluster, "training.workers=[1, 2]")
        with cluster.joined():
            competitor = placement_group([{"CPU": 1}])
            assert not competitor.wait(2), "there is no room yet"
            os.kill(workers_of(axis, 1)[1]["pid"], signal.SIGKILL)
            done = axis.finish(process)
            assert competitor.wait(60), "it stood in line all the time"
    assert done.code == 0, done
    assert placed_workers(axis) == [2, 2]
    assert [e["cause"] for e in axis.events("digits", "training-failed")] == ["worker"]
    assert_undisturbed(axis, STEPS)


def test_a_driver_that_is_told_to_end_leaves_a_checkpoint_of_its_last_step(axis: Axis) -> None:
    with raylets(num_cpus=2) as cluster:
        process = _start(axis, cluster, "training.workers=2", "coordination.checkpoint.every=1000")
        process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        stopped = axis.finish(process)
        seconds = time.monotonic() - told_at
        assert stopped.code == 6, stopped
        newest = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"][-1]
        committed = axis.events("digits", "checkpoint-committed")[-1]["checkpoint"]["step"]
        assert committed == newest, "no step is lost"
        print(f"gone {seconds:.1f} s after SIGTERM")
        assert seconds < 30.0, "the grace that Kubernetes gives"
        done = axis.finish(_start(axis, cluster, "training.workers=2"))
    assert done.code == 0, done
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, STEPS + 1))
    assert_undisturbed(axis, STEPS)
