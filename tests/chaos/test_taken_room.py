"""Somebody outside the coordinator does take what a run gave back: it waits, and goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.axis_command import Axis, wait_until
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import COMMON, assert_undisturbed
from tests.chaos.test_node_losses import SHARDED, placed_workers, start, workers_of

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

HELD_SECONDS = 30.0
"""Longer than it takes to notice, and less than ``gang.timeout``."""
SHAPES = (0.75, 0.8, 0.85, 0.9, 0.95)
"""CPUs of those who want the room. Ray asks one shape after the other, in an order of
its own: among so many, the replicas' own is hardly ever the first."""


def others(ray: Any, folder: Path) -> list[Any]:
    """Tasks that stand in line for CPUs, each of which leaves a file when it has them."""

    def hold(mark: str) -> None:
        Path(mark).touch()
        time.sleep(HELD_SECONDS)

    task = ray.remote(max_retries=0)(hold)
    return [task.options(num_cpus=cpus).remote(str(folder / str(cpus))) for cpus in SHAPES]


@contextmanager
def connected(cluster: Raylets) -> Iterator[Any]:
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield ray
    finally:
        ray.shutdown()


def test_a_replica_that_waits_for_room_is_told_from_one_that_starts() -> None:
    from orchestrator.runtime.internals.state import Replicas, replicas_of

    class Slow:
        def __init__(self) -> None:
            time.sleep(30)

    def seen() -> Replicas:
        return replicas_of("app")

    with raylets(num_cpus=2) as cluster, connected(cluster) as ray:
        named = [
            ray.remote(Slow).options(num_cpus=1, name=f"SERVE_REPLICA::app#{i}") for i in "abc"
        ]
        made = [each.remote() for each in named]
        wait_until(lambda: seen() == Replicas(3, 1), 60, "two to be placed, though not yet up")
        ray.kill(made[0])
        ray.kill(made[1])
        wait_until(lambda: seen() == Replicas(1, 0), 60, "the third to be placed")


def test_replicas_that_are_beaten_to_their_room_have_it_afterwards(
    axis: Axis, tmp_path: Path, free_port: int
) -> None:
    with raylets(num_cpus=2) as cluster:
        process = axis.start(
            "run", "configs/digits.yaml", *COMMON[2:], f"storage={axis.storage}",
            "job=tests.chaos.paced:Paced", "training.steps=150", "training.workers=2",
            "training.resources.cpu=1", "inference.resources={cpu: 1}", "inference.replicas=2",
            f"inference.port={free_port}", "inference.promote.when=null",
            "--address", cluster.address,
        )  # fmt: skip
        axis.await_step("digits", 20)
        with connected(cluster) as ray:
            waiting = others(ray, tmp_path)
            done = axis.finish(process)
            marks = sorted(path.name for path in tmp_path.glob("0.*"))
            del waiting
    assert done.code == 0, done
    assert marks, "the fault fired: others had the room"
    failed = axis.events("digits", "deploy-failed")
    assert failed, "and it was noticed"
    assert all(event["crowded_out"] for event in failed)
    assert "somebody else took the room" in failed[0]["message"]
    assert len(axis.events("digits", "deployed")) == 1
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, 151)), "nothing was trained again"


def test_a_run_waits_for_what_was_taken_while_it_came_back_from_a_lost_node(
    axis: Axis, tmp_path: Path
) -> None:
    steps = 400
    with raylets(num_cpus=2) as cluster:
        lost = cluster.add(num_cpus=2)
        process = start(axis, cluster, steps, *SHARDED)
        axis.await_step("digits", 70)
        with connected(cluster) as ray:
            waiting = others(ray, tmp_path)
            victims = cluster.kill(lost)
            done = axis.finish(process)
            del waiting
    assert done.code == 0, done
    assert sum(w["pid"] in victims for w in workers_of(axis, 1).values()) == 2, "the node was lost"
    assert list(tmp_path.glob("0.*")), "and others had the room that was left"
    failed = axis.events("digits", "training-failed")[0]["at_seconds"]
    again = axis.events("digits", "gang-placed")[1]["at_seconds"]
    assert again > failed + HELD_SECONDS - 5, "it waited until they had gone"
    waits = [event["why"] for event in axis.events("digits", "queued")]
    assert any("needs 2 × {CPU: 1}" in why for why in waits), "and said for what"
    assert placed_workers(axis) == [4, 2]
    assert_undisturbed(axis, steps)
