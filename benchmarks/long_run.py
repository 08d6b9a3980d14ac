"""Tells a run of any length: events that the coordinator accepts, one after the other.

Mostly signs of life and checkpoints, each followed by the deletion of what it supersedes; now and
then a lost worker group, seldom a new driver.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord

POLICY = RunPolicy(
    steps=10**9,
    workers=(4, 2),
    restarts={"worker": -1, "node": -1},
    keep=3,
    gang_timeout_seconds=120.0,
    start_timeout_seconds=300.0,
    stop_timeout_seconds=60.0,
)


@dataclass(frozen=True)
class Rates:
    """How often, of all events, the worker group is lost and a driver starts anew; how often a
    sign of life is a checkpoint; and how often its loss is not a number."""

    losses: float = 0.002
    drivers: float = 0.0001
    checkpoints: float = 0.2
    not_numbers: float = 0.0


def long_run(
    num_events: int, seed: int = 0, rates: Rates | None = None
) -> Iterator[tuple[ev.Event, RunState]]:
    """``num_events`` accepted events, with the state after each."""
    rng, state, count = random.Random(seed), RunState(), 0
    while count < num_events:
        decision = decide(state, event := _next(rng, state, 30.0 * count, rates or Rates()))
        if decision.accepted:
            state, count = decision.state, count + 1
            yield event, state


def _next(rng: random.Random, state: RunState, at_seconds: float, rates: Rates) -> ev.Event:
    attempt, drawn = state.attempt, rng.random()
    if state.phase == "new" or drawn < rates.drivers:
        return ev.Opened(
            attempt=attempt + 1,
            at_seconds=at_seconds,
            name="long",
            policy=POLICY,
            plan_hash="0" * 64,
            holder="pid 1234 on node7",
        )
    if state.phase == "reserving":
        workers = rng.choice(POLICY.workers)
        return ev.GangPlaced(attempt=attempt, at_seconds=at_seconds, workers=workers, note="dp")
    if state.phase == "sharding":
        store = StoreRecord(key="5f2c", content_hash="90ab", num_samples=72_345)
        return ev.StoreReady(attempt=attempt, at_seconds=at_seconds, store=store)
    if not state.started:
        step = state.committed_step + 1
        return ev.TrainingStarted(attempt=attempt, at_seconds=at_seconds, step=step)
    if state.doomed:
        doomed = state.doomed
        return ev.CheckpointsDeleted(attempt=attempt, at_seconds=at_seconds, folders=doomed)
    if drawn < rates.drivers + rates.losses:
        return ev.TrainingFailed(
            attempt=attempt,
            at_seconds=at_seconds,
            cause=rng.choice(("worker", "node")),
            message="rank 1 (pid 99 on node8) was killed by signal 9",
            rank=1,
            pid=99,
            node="node8",
        )
    step = state.step + rng.randrange(1, 400)
    if rng.random() > rates.checkpoints:
        return ev.Progressed(attempt=attempt, at_seconds=at_seconds, done=step)
    return _checkpoint(rng, attempt, step, at_seconds, rates.not_numbers)


def _checkpoint(
    rng: random.Random, attempt: int, step: int, at_seconds: float, not_numbers: float
) -> ev.Event:
    loss = float("nan") if rng.random() < not_numbers else rng.random()
    record = CheckpointRecord(
        step=step,
        attempt=attempt,
        folder=f"checkpoints/step-{step:08d}-attempt-{attempt:04d}",
        metrics={"val_loss": loss, "val_accuracy": rng.random()},
        size_bytes=5_242_880,
        at_seconds=at_seconds,
    )
    return ev.CheckpointCommitted(attempt=attempt, at_seconds=at_seconds, checkpoint=record)
