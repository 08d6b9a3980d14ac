"""A run whose budget is spent stops with a checkpoint, and goes on with a larger one."""

from __future__ import annotations

import json

import pytest

from tests.axis_command import Axis
from tests.chaos.test_histories import COMMON

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 12_000


def test_hours_are_spent_then_there_are_more(axis: Axis) -> None:
    run = ("run", *COMMON, f"storage={axis.storage}", f"training.steps={STEPS}",
           "coordination.price_per_hour=3.6", "coordination.checkpoint.every=1000")  # fmt: skip
    seconds = 60
    stopped = axis(*run, f"coordination.budget.hours={seconds / 3600}")
    assert stopped.code == 5, stopped
    assert "the budget is spent" in stopped.out
    view = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    assert view["status"] == "interrupted"
    assert 0 < view["committed_step"] < STEPS
    ledger = view["ledger"]
    parts = [s for name, s in ledger.items() if name.endswith("_seconds")]
    outside = sum(ledger[name] for name in ("wall_seconds", "away_seconds", "worker_seconds"))
    assert sum(parts) - outside == pytest.approx(ledger["wall_seconds"])
    assert ledger["wall_seconds"] == pytest.approx(seconds, abs=10)
    assert ledger["cost"] == pytest.approx(ledger["worker_seconds"] * 0.001)

    done = axis(*run, "coordination.budget.hours=1")
    assert done.code == 0, done
    taken = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    assert sorted(taken) == list(range(1, STEPS + 1)), "nothing was lost by the stop"
