"""What happens to a run when the link to one of its two hosts is cut, or slow?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, assert_exactly_once, wait_until
from tests.chaos.hosts import Lab, commands_on
from tests.chaos.test_histories import BATCH, COMMON, NUM_TRAIN, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 600
PACED = ("job=tests.chaos.paced:Paced", "coordination.checkpoint.every=50",
         "training.workers=[1, 2]", "training.resources.cpu=1")  # fmt: skip


@pytest.fixture
def lab(axis: Axis) -> Iterator[Lab]:
    """Two hosts with one CPU each; commands run on the head."""
    with commands_on(axis) as lab:
        yield lab


def _start(axis: Axis, lab: Lab, *more: str) -> Any:
    process = axis.start(
        "run", *COMMON, *PACED, f"storage={axis.storage}", f"training.steps={STEPS}",
        "--address", lab.address, *more,
    )  # fmt: skip
    axis.await_step("digits", 70)
    hosts = {r["node"] for r in axis.metrics("digits") if r["kind"] == "worker"}
    assert len(hosts) == 2, "one worker on each host"
    return process


def _newest_step(axis: Axis) -> dict[str, Any]:
    return [r for r in axis.metrics("digits") if r["kind"] == "step"][-1]


def test_a_link_that_is_cut_for_five_seconds_is_ridden_through(axis: Axis, lab: Lab) -> None:
    process = _start(axis, lab)
    lab.worker.unplug()
    time.sleep(5.0)
    lab.worker.plug()
    done = axis.finish(process)
    assert done.code == 0, done
    at = [r["at_seconds"] for r in axis.metrics("digits") if r["kind"] == "step"]
    pause = max(after - before for before, after in pairwise(at))
    print(f"cut for 5 s: {pause:.1f} s between two steps")
    assert pause >= 5.0, "the fault fired"
    assert axis.events("digits", "training-failed") == []
    assert {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"} == {1}
    assert_undisturbed(axis, STEPS)


def test_a_host_that_is_cut_off_for_good_is_left_out(axis: Axis, lab: Lab) -> None:
    process = _start(axis, lab)
    seats = {r["rank"]: r for r in axis.metrics("digits") if r["kind"] == "worker"}
    lab.worker.unplug()
    cut_at = time.time()
    wait_until(
        lambda: _newest_step(axis)["attempt"] == 2, PATIENCE_SECONDS, "the run to go on without it"
    )
    first = next(r for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] == 2)
    print(f"cut off for good: {first['at_seconds'] - cut_at:.1f} s to the next step")
    done = axis.finish(process)
    assert done.code == 0, done
    (failed,) = axis.events("digits", "training-failed")
    assert failed["cause"] == "node"
    suspected = axis.events("digits", "node-suspected")
    assert [event["node"] for event in suspected] == failed["nodes"], "by our own heartbeats"
    assert 5.0 <= suspected[0]["silent_seconds"] < 8.0
    assert failed["at_seconds"] - cut_at < 20.0, "long before Ray's own health check"
    again = {r["node"] for r in axis.metrics("digits") if r["kind"] == "worker"
             and r["attempt"] == 2}  # fmt: skip
    assert again < {seat["node"] for seat in seats.values()}
    assert [event["workers"] for event in axis.events("digits", "gang-placed")] == [2, 1]
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)
    assert_undisturbed(axis, STEPS)


def test_a_slow_link_is_named(axis: Axis, lab: Lab) -> None:
    process = _start(axis, lab)
    there = lab.node_id(lab.worker)
    lab.worker.slow_down("10mbit")

    def named() -> list[dict[str, Any]]:
        return [event for event in axis.events("digits", "straggler") if event["rank"] is None]

    wait_until(lambda: bool(named()), PATIENCE_SECONDS, "the link to be named")
    done = axis.finish(process)
    assert done.code == 0, done
    straggler = axis.events("digits", "straggler")[0]
    print(straggler["text"])
    assert straggler["node"] == there
    assert "link" in straggler["text"]
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)
