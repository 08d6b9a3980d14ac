"""Runs on a cluster that is there already: placed or refused, served and left up, cleaned up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

DIGITS = "configs/digits.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two raylets with one CPU each, and this process connected to them."""
    from orchestrator.runtime.cluster import NAMESPACE, prepare

    prepare()
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(
            address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR"
        )
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def _assert_nothing_is_held() -> None:
    """All CPUs are free again, and neither groups nor actors of ours are left."""
    import ray
    from ray.util import placement_group_table

    from orchestrator.runtime.cluster import NAMESPACE

    wait_until(
        lambda: ray.available_resources().get("CPU") == 2.0, PATIENCE_SECONDS, "two free CPUs"
    )
    groups = [g for g in placement_group_table().values() if g["state"] != "REMOVED"]
    assert groups == []
    named = ray.util.list_named_actors(all_namespaces=True)
    assert [actor for actor in named if actor["namespace"] == NAMESPACE] == []


def _run(axis: Axis, cluster: Any, *more: str) -> tuple[str, ...]:
    storage = f"storage={axis.storage}"
    return ("run", DIGITS, storage, "--address", cluster.address, "training.steps=20", *more)


def test_what_can_never_fit_is_refused_with_the_arithmetic(axis: Axis, cluster: Any) -> None:
    refused = axis(
        *_run(axis, cluster, "training.workers=4", "training.resources.cpu=1", "inference=null")
    )
    assert refused.code == 3, refused
    text = refused.out + refused.err
    assert "needs 4 × {CPU: 1}" in text
    assert "short by 2 CPU" in text
    assert "training.workers=2 fits" in text
    assert "Traceback" not in text
    _assert_nothing_is_held()


def test_a_gang_that_is_not_placed_in_time_ends_with_exit_code_4(axis: Axis, cluster: Any) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    competitor = placement_group([{"CPU": 1}])
    assert competitor.wait(20)
    try:
        late = axis(
            *_run(axis, cluster, "coordination.gang.timeout=3s", "training.resources.cpu=1")
        )
    finally:
        remove_placement_group(competitor)
    assert late.code == 4, late
    assert "needs 2 × {CPU: 1}" in late.out + late.err
    _assert_nothing_is_held()


def test_workers_stay_inside_the_reservation_and_the_app_is_left_up(
    axis: Axis, cluster: Any, free_port: int
) -> None:
    """One run, served and left up by a driver that is gone; then another takes it down."""
    from ray import serve

    more = (f"inference.port={free_port}", "inference.promote.when=null")
    kept = axis(*_run(axis, cluster, "--keep-serving", "training.resources.cpu=1", *more))
    assert kept.code == 0, kept
    nodes = {r["node"] for r in axis.metrics("digits") if r["kind"] == "worker"}
    assert len(nodes) == 2, "one worker a node: each has a single CPU"
    url = f"http://127.0.0.1:{free_port}/digits"
    assert httpx.get(f"{url}/healthz", timeout=10).json()["ready"]
    answer = httpx.post(f"{url}/", json={"pixels": [0] * 64}, timeout=20).json()
    assert answer["step"] == 20
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert view["url"] == url

    again = axis(*_run(axis, cluster, *more))
    assert again.code == 0, again
    assert "digits" not in serve.status().applications
    _assert_nothing_is_held()


@pytest.mark.slow
def test_a_driver_that_vanishes_gives_its_reservation_back(axis: Axis, cluster: Any) -> None:
    import ray

    running = axis.start(*_run(axis, cluster, "training.steps=100000", "inference=null"))
    axis.await_step("digits", 5)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(timeout=10)
    wait_until(
        lambda: ray.available_resources().get("CPU") == 2.0,
        PATIENCE_SECONDS,
        "the gang to be released",
    )
