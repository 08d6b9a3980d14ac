"""Somebody outside wants the room that is handed over to Ray Serve for the replicas."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.axis_command import Axis
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import COMMON

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

HELD_SECONDS = 2.0
STEPS = 150


def start_and_hand_over(axis: Axis, cluster: Raylets, port: int) -> Any:
    """A run that fills two CPUs with workers and then with replicas; it has begun to step."""
    process = axis.start(
        "run", "configs/digits.yaml", *COMMON[2:], f"storage={axis.storage}",
        "job=tests.chaos.paced:Paced", f"training.steps={STEPS}", "training.workers=2",
        "training.resources.cpu=1", "inference.resources={cpu: 1}", "inference.replicas=2",
        f"inference.port={port}", "inference.promote.when=null",
        "--address", cluster.address,
    )  # fmt: skip
    axis.await_step("digits", 20)
    return process


def assert_trained_once(axis: Axis) -> None:
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, STEPS + 1)), "nothing was trained again"


def test_a_competitor_that_stands_in_line_does_not_come_between(axis: Axis, free_port: int) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    def hold_for_a_while() -> None:
        """Stands in line since before the replicas do."""
        competitor = placement_group([{"CPU": 2}])
        if competitor.wait(300):
            took.append(time.time())
            time.sleep(HELD_SECONDS)
        remove_placement_group(competitor)

    took: list[float] = []
    with raylets(num_cpus=2) as cluster:
        process = start_and_hand_over(axis, cluster, free_port)
        with cluster.joined():
            thread = threading.Thread(target=hold_for_a_while, daemon=True)
            thread.start()
            done = axis.finish(process)
            thread.join(HELD_SECONDS + 10)
    assert done.code == 0, done
    assert axis.events("digits", "deploy-failed") == []
    deployed = axis.events("digits", "deployed")[0]["at_seconds"]
    assert took, "the fault fired: somebody stood in line all the time"
    assert deployed < took[0], "and had the room when the replicas had gone"
    assert_trained_once(axis)
