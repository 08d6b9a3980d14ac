"""Several runs on one cluster: they wait for one another, make room, and grow back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.chaos.several_raylets import Raylets, raylets

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def start(axis: Axis, cluster: Raylets, name: str, *more: str) -> Any:
    return axis.start(
        "run", "configs/digits.yaml", f"storage={axis.storage}", f"name={name}",
        "--address", cluster.address, "inference=null", "training.resources.cpu=1", *more,
    )  # fmt: skip


def workers_over_time(axis: Axis, run: str) -> list[int]:
    return [event["workers"] for event in axis.events(run, "gang-placed")]


def test_of_two_runs_that_do_not_both_fit_one_waits_for_the_other(axis: Axis) -> None:
    with raylets(num_cpus=2) as cluster:
        processes = [start(axis, cluster, name, "training.steps=300") for name in ("one", "two")]
        finished = [axis.finish(process) for process in processes]
    assert [done.code for done in finished] == [0, 0], finished
    queued = [event for name in ("one", "two") for event in axis.events(name, "queued")]
    assert queued, "they met"
    assert queued[0]["why"].startswith("needs 2 × {CPU: 1}; ")
    assert "(priority 0) holds 2" in " ".join(event["why"] for event in queued)
    assert all(axis.events(name, "training-failed") == [] for name in ("one", "two"))


def test_a_run_of_higher_priority_has_an_elastic_one_make_room(axis: Axis) -> None:
    more = ("training.workers=[1, 2]", "coordination.regrow_after=1s",
            "coordination.checkpoint.every=50")  # fmt: skip
    with raylets(num_cpus=2) as cluster:
        humble = start(axis, cluster, "humble", "training.steps=6000", *more)
        axis.await_step("humble", 30)
        urgent = start(axis, cluster, "urgent", "training.steps=200", "training.workers=1",
                       "data.tasks=1", "coordination.priority=5")  # fmt: skip
        done = axis.finish(urgent)
        assert done.code == 0, done
        wait_until(
            lambda: workers_over_time(axis, "humble")[-1] == 2, PATIENCE_SECONDS, "it to grow back"
        )
        done = axis.finish(humble)
    assert done.code == 0, done
    assert workers_over_time(axis, "humble") == [2, 1, 2]
    assert axis.events("humble", "training-failed") == [], "it was not killed for it"
    taken = [r["step"] for r in axis.metrics("humble") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, 6001)), "and lost no step"
