"""Somebody outside the coordinator does take what a run gave back: it waits, and goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.axis_command import Axis
from tests.chaos.several_raylets import raylets
from tests.chaos.test_hand_over import assert_trained_once, start_and_hand_over
from tests.chaos.test_histories import assert_undisturbed
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


def test_replicas_that_are_beaten_to_their_room_have_it_afterwards(
    axis: Axis, tmp_path: Path, free_port: int
) -> None:
    with raylets(num_cpus=2) as cluster:
        process = start_and_hand_over(axis, cluster, free_port)
        with cluster.joined() as ray:
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
    assert_trained_once(axis)


def test_a_run_waits_for_what_was_taken_while_it_came_back_from_a_lost_node(
    axis: Axis, tmp_path: Path
) -> None:
    steps = 400
    with raylets(num_cpus=2) as cluster:
        lost = cluster.add(num_cpus=2)
        process = start(axis, cluster, steps, *SHARDED)
        axis.await_step("digits", 70)
        with cluster.joined() as ray:
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
