"""Tells a run of any length: events that the coordinator accepts, one after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.policy import Cause, RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord

POLICY = RunPolicy(
    steps=10**9,
    workers=(2, 1),
    restarts={"worker": -1, "node": -1},
    keep=2,
    gang_timeout_seconds=1.0,
    start_timeout_seconds=1.0,
    stop_timeout_seconds=1.0,
)


def told(seed: int, num_events: int) -> Iterator[tuple[ev.Event, RunState]]:
    """``num_events`` accepted events with the state after each: mostly progress and checkpoints,
    now and then a lost group, seldom a new driver."""
    rng, state, at_seconds, count = random.Random(seed), RunState(), 1.0, 0
    while count < num_events:
        at_seconds += rng.random()
        event = _next(rng, state, at_seconds)
        decision = decide(state, event)
        if decision.accepted:
            state, count = decision.state, count + 1
            yield event, state


def _next(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    attempt = state.attempt
    if state.phase == "new" or rng.random() < 0.02:
        return ev.Opened(attempt=attempt + 1, at_seconds=at_seconds, name="r", policy=POLICY)
    if state.phase == "reserving":
        return ev.GangPlaced(attempt=attempt, at_seconds=at_seconds, workers=rng.choice((1, 2)))
    if state.phase == "sharding":
        store = StoreRecord(key="k", content_hash="same", num_samples=10)
        return ev.StoreReady(attempt=attempt, at_seconds=at_seconds, store=store)
    if not state.started:
        step = state.committed_step + 1
        return ev.TrainingStarted(attempt=attempt, at_seconds=at_seconds, step=step)
    if state.doomed:
        folders = state.doomed
        return ev.CheckpointsDeleted(attempt=attempt, at_seconds=at_seconds, folders=folders)
    if rng.random() < 0.04:
        cause: Cause = "worker" if rng.random() < 0.5 else "node"
        return ev.TrainingFailed(
            attempt=attempt, at_seconds=at_seconds, cause=cause, message="rank 1 is gone"
        )
    if rng.random() < 0.6:
        return ev.Progressed(attempt=attempt, at_seconds=at_seconds, done=state.step + 1)
    return _checkpoint(rng, state, at_seconds)


def _checkpoint(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    step = max(state.step, state.committed_step + 1)
    record = CheckpointRecord(
        step=step,
        attempt=state.attempt,
        folder=f"checkpoints/step-{step:08d}-attempt-{state.attempt:04d}",
        metrics={"val_loss": rng.choice([float("nan"), rng.random()])},
    )
    return ev.CheckpointCommitted(
        attempt=state.attempt, at_seconds=at_seconds, checkpoint=replace(record, size_bytes=7)
    )
