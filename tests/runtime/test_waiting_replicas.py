"""What the runtime takes from Ray's table of actors: which replicas have no room yet."""

from __future__ import annotations

import time

import pytest

from orchestrator.runtime.internals.state import Replicas, replicas_of
from tests.axis_command import wait_until
from tests.chaos.several_raylets import raylets

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def test_a_replica_that_waits_for_room_is_told_from_one_that_starts() -> None:
    class Slow:
        def __init__(self) -> None:
            time.sleep(30)

    def seen() -> Replicas:
        return replicas_of("app")

    with raylets(num_cpus=2) as cluster, cluster.joined() as ray:
        named = [
            ray.remote(Slow).options(num_cpus=1, name=f"SERVE_REPLICA::app#{i}") for i in "abc"
        ]
        made = [each.remote() for each in named]
        wait_until(lambda: seen() == Replicas(3, 1), 60, "two to be placed, though not yet up")
        ray.kill(made[0])
        ray.kill(made[1])
        wait_until(lambda: seen() == Replicas(1, 0), 60, "the third to be placed")
