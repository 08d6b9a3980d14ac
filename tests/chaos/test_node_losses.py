"""Nodes come and go: the mesh that is left goes on with the same batch, and grows again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, assert_exactly_once, wait_until
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import BATCH, COMMON, NUM_TRAIN, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.timeout(900)]

SHARDED = ("training.workers=[2, 4]", "training.resources.cpu=1", "model.shard=2")


def start(axis: Axis, cluster: Raylets, steps: int, *more: str) -> Any:
    return axis.start(
        "run", *COMMON, f"storage={axis.storage}", "--address", cluster.address,
        f"training.steps={steps}", "coordination.checkpoint.every=50", *more,
    )  # fmt: skip


def workers_of(axis: Axis, attempt: int) -> dict[int, dict[str, Any]]:
    return {
        r["rank"]: r
        for r in axis.metrics("digits")
        if r["kind"] == "worker" and r["attempt"] == attempt
    }


def placed_workers(axis: Axis) -> list[int]:
    return [event["workers"] for event in axis.events("digits", "gang-placed")]


@pytest.mark.slow
def test_a_lost_node_leaves_a_smaller_mesh_and_the_same_losses(axis: Axis) -> None:
    steps = 400
    with raylets(num_cpus=2) as cluster:
        lost = cluster.add(num_cpus=2)
        process = start(axis, cluster, steps, *SHARDED)
        axis.await_step("digits", 70)
        victims = cluster.kill(lost)
        done = axis.finish(process)
    assert done.code == 0, done
    before = workers_of(axis, 1)
    assert len(before) == 4
    assert sum(worker["pid"] in victims for worker in before.values()) == 2, "the fault fired"
    failed = axis.events("digits", "training-failed")
    assert [event["cause"] for event in failed] == ["node"], failed
    assert placed_workers(axis) == [4, 2]
    note = axis.events("digits", "gang-placed")[1]["note"]
    assert "4 → 2 workers: replicate 2 → 1, shard 2 kept" in note
    newest = sorted((axis.storage / "digits" / "checkpoints").iterdir())[-1]
    mesh = json.loads((newest / "manifest.json").read_text())["mesh"]
    assert (mesh["replicate"], mesh["shard"]) == (1, 2)
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, steps, BATCH)
    assert_undisturbed(axis, steps)


@pytest.mark.slow
def test_a_drained_node_costs_no_step(axis: Axis) -> None:
    """Its workers leave with a checkpoint before it goes, and the others go on."""
    steps = 400
    with raylets(num_cpus=2) as cluster:
        going = cluster.add(num_cpus=2)
        process = start(axis, cluster, steps, *SHARDED)
        axis.await_step("digits", 70)
        drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        drain += ["--address", cluster.address, "--node-id", going.node_id]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        drain += ["--deadline-remaining-seconds", "20"]
        subprocess.run(drain, check=True, capture_output=True, timeout=60)
        done = axis.finish(process)
    assert done.code == 0, done
    noticed = axis.events("digits", "drain-noticed")
    assert [event["nodes"] for event in noticed] == [[going.node_id]], "the fault fired"
    assert placed_workers(axis) == [4, 2]
    assert {worker["node"] for worker in workers_of(axis, 2).values()} != {going.node_id}
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, steps + 1)), "no step was taken twice"
    assert_undisturbed(axis, steps)


@pytest.mark.slow
def test_a_run_grows_onto_a_node_that_is_added(axis: Axis) -> None:
    steps = 1500
    with raylets(num_cpus=2) as cluster:
        process = start(axis, cluster, steps, *SHARDED, "coordination.regrow_after=2s")
        axis.await_step("digits", 70)
        cluster.add(num_cpus=2)
        wait_until(lambda: placed_workers(axis) == [2, 4], PATIENCE_SECONDS, "the run to grow")
        done = axis.finish(process)
    assert done.code == 0, done
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, steps + 1)), "it grew at a checkpoint, and lost nothing"
    assert axis.events("digits", "training-failed") == []
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, steps, BATCH)
