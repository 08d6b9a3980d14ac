"""Events that are likely, unlikely, late, doubled, or of another attempt: for runs at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.policy import CAUSES, Promotion, RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord

NODES = ("n0", "n1", "n2", "n3")


def random_policy(rng: random.Random) -> RunPolicy:
    promotion = Promotion(
        metric="val_loss",
        mode=rng.choice(["min", "max"]),
        gate_metric="val_loss" if rng.random() < 0.5 else None,
        below=rng.choice([None, 1.5]),
        above=rng.choice([None, None, 0.5]),
    )
    hand_over = rng.random() < 0.5
    return RunPolicy(
        steps=rng.choice([1, 3, 10]),
        workers=rng.choice([(1,), (2, 1), (4, 2)]),
        restarts={cause: rng.choice([-1, 0, 1, 2]) for cause in CAUSES},
        keep=rng.choice([1, 2, 3]),
        gang_timeout_seconds=120.0,
        start_timeout_seconds=300.0,
        stop_timeout_seconds=60.0,
        promotion=promotion if rng.random() < 0.8 else None,
        replicas=1,
        has_example=rng.random() < 0.5,
        keep_serving=rng.choice(["no", "no", "attached", "detached"]),
        release_before_deploy=not hand_over and rng.random() < 0.5,
        hand_over=hand_over,
        gang_attempts=rng.choice([1, 1, 3]),
        regrow_after_seconds=60.0,
        micro_batches=rng.choice([{}, {1: (8, 4, 2, 1), 2: (4, 2, 1), 4: (2, 1)}, {2: (3,)}]),
        price_per_hour=rng.choice([None, 2.0]),
        budget_hours=rng.choice([None, 1.0]),
        budget_cost=rng.choice([None, 5.0]),
    )


def record_of(rng: random.Random, state: RunState, step: int) -> CheckpointRecord:
    values = [0.1, 1.0, 2.0, float("nan")]
    metrics = {"val_loss": rng.choice(values)} if rng.random() < 0.8 else {}
    attempt = state.attempt if rng.random() < 0.95 else state.attempt - 1
    folder = f"checkpoints/step-{step:08d}-attempt-{attempt:04d}"
    return CheckpointRecord(step=step, attempt=attempt, folder=folder, metrics=metrics)


def store_of(rng: random.Random) -> StoreRecord:
    content = "changed" if rng.random() < 0.02 else "same"
    num_samples = 0 if rng.random() < 0.02 else 100
    return StoreRecord(key="k", content_hash=content, num_samples=num_samples)


def some_nodes(rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.sample(NODES, rng.randrange(3)))


def waits_of(rng: random.Random) -> dict[str, float | None]:
    return {
        "stall_seconds": rng.choice([None, 0.0, 0.3, 5.0]),
        "checkpoint_seconds": rng.choice([None, 0.0, 0.2, 9.0]),
    }


Maker = Callable[[random.Random, RunState, dict[str, Any]], ev.Event]

ANYTHING: list[Maker] = [
    lambda r, s, k: ev.GangPlaced(workers=r.choice([0, 1, 2, 4, 7]), nodes=some_nodes(r), **k),
    lambda r, s, k: ev.GangTimedOut(message="no room", tried=s.gang_tried, **k),
    lambda r, s, k: ev.GangTimedOut(message="no room", tried=r.randrange(3), **k),
    lambda r, s, k: ev.Queued(position=r.randrange(1, 3), of=3, why="full", **k),
    lambda r, s, k: resize(r, k),
    lambda r, s, k: ev.YieldOver(**k),
    lambda r, s, k: drain(r, k),
    lambda r, s, k: ev.NodeSuspected(node=r.choice(NODES), silent_seconds=5.0, **k),
    lambda r, s, k: ev.NodeCleared(node=r.choice(NODES), **k),
    lambda r, s, k: ev.Misplaced(text="rank 1 is on n2", **k),
    lambda r, s, k: ev.Straggler(text="rank 1 takes twice as long", rank=1, ratio=2.0, **k),
    lambda r, s, k: ev.StoreReady(store=store_of(r), **k),
    lambda r, s, k: ev.Progressed(done=r.randrange(12), **waits_of(r), **k),
    lambda r, s, k: ev.TrainingStarted(step=s.committed_step + 1, **k),
    lambda r, s, k: ev.CheckpointCommitted(
        checkpoint=record_of(r, s, r.randrange(1, 12)),
        ahead_seconds=r.choice([0.0, 0.4]),
        **waits_of(r),
        **k,
    ),
    lambda r, s, k: ev.CheckpointDamaged(
        folder=r.choice([c.folder for c in s.committed] or ["none"]), reason="flipped", **k
    ),
    lambda r, s, k: ev.CheckpointsDeleted(folders=s.doomed[: r.randrange(3)], **k),
    lambda r, s, k: ev.TrainingEnded(step=r.randrange(12), stopped=r.random() < 0.5, **k),
    lambda r, s, k: loss(r, k),
    lambda r, s, k: ev.Deployed(url="http://here", **k),
    lambda r, s, k: ev.DeployFailed(message="no", crowded_out=r.random() < 0.5, **k),
    lambda r, s, k: ev.ExampleAnswered(answer={"a": 1}, **k),
    lambda r, s, k: ev.ExampleFailed(message="500", **k),
    lambda r, s, k: ev.StopRequested(by=r.choice(["ctrl-c", "request", "sigterm"]), **k),
    lambda r, s, k: ev.BudgetSpent(
        what=r.choice(["hours", "cost"]), used=r.choice([0.5, 6.0]), limit=1.0, **k
    ),
    lambda r, s, k: ev.Expired(
        what=s.wait.what if s.wait else "nothing", since=s.wait.since if s.wait else 0, **k
    ),
    lambda r, s, k: ev.Expired(what="something else", since=0, **k),
    lambda r, s, k: ev.Failed(exit_code=r.choice([1, 3]), message="no", **k),
    lambda r, s, k: ev.TornDown(**k),
]


def loss(rng: random.Random, stamp: dict[str, Any]) -> ev.TrainingFailed:
    cause = rng.choice(CAUSES)
    nodes = some_nodes(rng) if cause == "node" else ()
    return ev.TrainingFailed(cause=cause, message="gone", nodes=nodes, **stamp)


def resize(rng: random.Random, stamp: dict[str, Any]) -> ev.ResizeWanted:
    return ev.ResizeWanted(
        resize=rng.choice(["grow", "yield"]),
        workers=rng.choice([0, 1, 2, 4, 9]),
        since_placed_seconds=rng.choice([5.0, 60.0, 1000.0]),
        **stamp,
    )


def drain(rng: random.Random, stamp: dict[str, Any]) -> ev.DrainNoticed:
    grace = rng.choice([None, 0.5, 15.0, 7200.0])
    return ev.DrainNoticed(nodes=some_nodes(rng), grace_seconds=grace, why="spot", **stamp)


def opened(rng: random.Random, state: RunState, at_seconds: float) -> ev.Opened:
    return ev.Opened(
        attempt=state.attempt + 1,
        at_seconds=at_seconds,
        name="r",
        policy=random_policy(rng),
        plan_hash=rng.choice(["", "p", "p"]),
    )


def any_event(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    if rng.random() < 0.05:
        event = opened(rng, state, at_seconds)
        return event if rng.random() < 0.8 else replace(event, attempt=rng.randrange(5))
    shift = rng.choices([0, -1, 1], [0.9, 0.07, 0.03])[0]
    stamp = {"attempt": state.attempt + shift, "at_seconds": at_seconds}
    return rng.choice(ANYTHING)(rng, state, stamp)


def likely_event(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    """What usually comes next, so that random runs get far."""
    stamp = {"attempt": state.attempt, "at_seconds": at_seconds}
    policy = state.policy
    if policy is None or state.phase in ("new", "ended"):
        return opened(rng, state, at_seconds)
    if state.phase == "reserving":
        return likely_gang(rng, state, policy, stamp)
    if state.phase == "sharding":
        return ev.StoreReady(store=store_of(rng), **stamp)
    if state.phase in ("training", "stopping"):
        return likely_step(rng, state, policy.steps, stamp)
    if state.phase == "deploying":
        crowded_out = rng.random() < 0.2
        if crowded_out:
            return ev.DeployFailed(message="crowded out", crowded_out=True, **stamp)
        return ev.Deployed(url="http://here", **stamp)
    if state.phase == "serving" and state.example_pending:
        return ev.ExampleAnswered(answer=1, **stamp)
    return ev.TornDown(**stamp)


def likely_gang(
    rng: random.Random, state: RunState, policy: RunPolicy, stamp: dict[str, Any]
) -> ev.Event:
    if rng.random() < 0.1:
        return ev.GangTimedOut(message="no room", tried=state.gang_tried, **stamp)
    most = policy.workers[0] if state.most_workers is None else state.most_workers
    counts = [count for count in policy.workers if count <= most]
    late = rng.random() < 0.2  # placed before it was told which nodes are lost
    nodes = tuple(node for node in NODES if late or node not in state.excluded)
    return ev.GangPlaced(
        workers=0 if state.trained else rng.choice(counts), nodes=nodes[:2], **stamp
    )


def likely_stop(rng: random.Random, state: RunState, stamp: dict[str, Any]) -> ev.Event:
    odd = rng.random()
    if odd < 0.1 and state.wait:
        return ev.Expired(what=state.wait.what, since=state.wait.since, **stamp)
    if odd < 0.15:
        return ev.StopRequested(by="request", **stamp)
    if odd < 0.25:
        return ev.BudgetSpent(what=rng.choice(["hours", "cost"]), used=6.0, limit=1.0, **stamp)
    return ev.TrainingEnded(step=state.step, stopped=True, **stamp)


def likely_step(rng: random.Random, state: RunState, steps: int, stamp: dict[str, Any]) -> ev.Event:
    if state.phase == "stopping" and rng.random() < 0.7:
        return likely_stop(rng, state, stamp)
    if not state.started:
        return ev.TrainingStarted(step=state.committed_step + 1, **stamp)
    if state.resize and rng.random() < 0.5:
        return ev.TrainingEnded(step=state.committed_step, stopped=True, **stamp)
    if state.trained:
        return ev.TrainingEnded(step=steps, **stamp)
    odd = rng.random()
    if odd < 0.1:
        return resize(rng, stamp)
    if odd < 0.15:
        return drain(rng, stamp)
    step = min(steps, state.committed_step + rng.choice([1, 2, 5]))
    record = record_of(rng, state, step)
    return ev.CheckpointCommitted(checkpoint=record, **waits_of(rng), **stamp)
