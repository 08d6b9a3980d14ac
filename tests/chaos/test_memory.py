"""Memory runs out: never again the same, and the same batch all the while."""

from __future__ import annotations

import pytest

from tests.axis_command import Axis
from tests.chaos.test_histories import COMMON, assert_undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def hungry(axis: Axis, at_most: int, *more: str) -> tuple[str, ...]:
    job = ("job=tests.chaos.hungry:Hungry", f"options={{at_most: {at_most}}}")
    return ("run", *COMMON, *job, f"storage={axis.storage}", "training.steps=40", *more)


def test_a_lack_of_memory_is_answered_with_smaller_micro_batches(axis: Axis) -> None:
    done = axis(*hungry(axis, 8), "coordination.restarts.oom=5")
    assert done.code == 0, done
    failed = axis.events("digits", "training-failed")
    assert [event["cause"] for event in failed] == ["oom", "oom"], "of 32 samples, and of 16"
    assert "can't allocate memory" in failed[0]["message"]
    started = [r for r in axis.metrics("digits") if r["kind"] == "started"]
    assert [(r["micro_batch"], r["accumulation"]) for r in started] == [(32, 1), (16, 2), (8, 4)]
    assert_undisturbed(axis, 40)


def test_where_nothing_smaller_is_left_it_ends_with_advice(axis: Axis) -> None:
    done = axis(*hungry(axis, 0), "training.micro_batch=1")
    assert done.code == 1, done
    said = done.out + done.err
    assert "ran out of memory" in said
    assert "what could help" in said
    assert len(axis.events("digits", "training-failed")) == 1, "never retried unchanged"
    assert "Traceback" not in done.err
