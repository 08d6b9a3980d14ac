"""A host whose wall clock is an hour ahead: nothing compares clocks of two hosts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.axis_command import Axis
from tests.chaos.hosts import commands_on
from tests.chaos.test_histories import COMMON, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 300


def test_an_hour_of_skew_changes_nothing(axis: Axis) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime (package faketime)")
    with commands_on(axis, ["faketime", "-f", "+3600s"]) as lab:
        process = axis.start(
            "run", *COMMON, "job=tests.chaos.paced:Paced", f"storage={axis.storage}",
            f"training.steps={STEPS}", "coordination.checkpoint.every=50",
            "training.workers=2", "training.resources.cpu=1", "--address", lab.address,
        )  # fmt: skip
        axis.await_step("digits", 30)
        pids = [r["pid"] for r in axis.metrics("digits") if r["kind"] == "worker"]
        ahead = ["faketime" in Path(f"/proc/{pid}/maps").read_text() for pid in pids]
        assert sorted(ahead) == [False, True], "the fault fired"
        done = axis.finish(process)
    assert done.code == 0, done
    for kind in ("training-failed", "node-suspected"):
        assert axis.events("digits", kind) == [], kind
    dates = [event["at_seconds"] for event in axis.events("digits")]
    assert dates == sorted(dates)
    assert dates[-1] - dates[0] < 600, "one clock dates the events"
    assert_undisturbed(axis, STEPS)
