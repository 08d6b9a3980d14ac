"""Thousands of random runs, with what must always hold checked after every single event.

``World`` carries actions out the way a driver does, keeps its own books of what is held, and
answers with events that are likely, unlikely, late, doubled, or of another attempt.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import Decision, decide, due, replay
from orchestrator.coordinator.policy import CAUSES, Promotion, RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord

pytestmark = pytest.mark.unit

WAITING = ("reserving", "sharding", "training", "stopping", "deploying", "ending")


def random_policy(rng: random.Random) -> RunPolicy:
    promotion = Promotion(
        metric="val_loss",
        mode=rng.choice(["min", "max"]),
        gate_metric="val_loss" if rng.random() < 0.5 else None,
        below=rng.choice([None, 1.5]),
        above=rng.choice([None, None, 0.5]),
    )
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
        release_before_deploy=rng.random() < 0.5,
    )


@dataclass
class World:
    """What there is outside the coordinator, by the actions alone."""

    reserved: bool = False
    workers_alive: bool = False
    data_alive: bool = False
    app_up: bool = False
    asked: list[act.Action] = field(default_factory=list)

    def carry_out(self, action: act.Action, state: RunState) -> None:
        match action:
            case act.ReserveGang():
                assert not self.reserved, "a second reservation beside the first"
                assert not self.workers_alive
                assert not self.data_alive
                self.reserved = True
            case act.ReleaseGang():
                assert not self.workers_alive, "the gang was taken from under living workers"
                assert not self.data_alive, "the gang was taken from under living data tasks"
                self.reserved = False
            case act.BuildStore():
                assert self.reserved
                assert not self.data_alive
                self.data_alive = True
            case act.CancelStore():
                self.data_alive = False
            case act.StartTraining():
                assert self.reserved, "workers without a gang"
                assert not self.workers_alive, "two worker groups at once"
                assert action.attempt == state.attempt
                assert action.workers in (state.policy.workers if state.policy else ())
                folders = [record.folder for record in state.committed]
                assert action.resume == (folders[-1] if folders else None)
                assert action.first_step == state.committed_step
                self.workers_alive = True
            case act.KillTraining():
                self.workers_alive = False
            case act.DeleteCheckpoints():
                kept = {record.folder for record in state.committed}
                assert not kept & set(action.folders), "a committed checkpoint was deleted"
                if state.app != "none" and state.promoted:
                    assert state.promoted.folder not in action.folders
            case act.Deploy():
                assert not self.workers_alive
                assert action.folder in [record.folder for record in state.committed]
                self.app_up = True
            case act.TearDown():
                self.app_up = False
            case act.End():
                assert not self.reserved, "the run ended with a gang"
                assert not self.workers_alive, "the run ended with workers"
                assert not self.data_alive, "the run ended with data tasks"
                assert self.app_up == action.app_left, "the run ended with an app by accident"
        self.asked.append(action)

    def hear(self, event: ev.Event) -> None:
        """Events that say by themselves that something is gone."""
        if isinstance(event, ev.TrainingEnded):
            self.workers_alive = False
        if isinstance(event, ev.StoreReady):
            self.data_alive = False


def check_decision(before: RunState, event: ev.Event, decision: Decision) -> None:
    after = decision.state
    if not decision.accepted:
        assert after is before
        assert decision.actions == ()
        assert decision.note
        assert decision.verdict in ("ignored", "refused", "fenced")
        return
    assert isinstance(event, ev.Opened) or event.attempt == before.attempt
    assert after.num_events == before.num_events + 1
    assert before.attempt <= after.attempt <= before.attempt + 1
    if not isinstance(event, ev.CheckpointDamaged):
        assert after.committed_step >= before.committed_step
    steps = [record.step for record in after.committed]
    assert steps == sorted(set(steps))
    assert not {record.folder for record in after.committed} & {*after.doomed, *after.damaged}
    assert (after.outcome is not None) == (after.phase in ("ending", "ended"))
    ends = [action for action in decision.actions if isinstance(action, act.End)]
    newly = before.phase != "ended" or isinstance(event, ev.Opened)
    assert len(ends) == (after.phase == "ended" and newly)
    if ends:
        assert decision.actions[-1] is ends[0]
    check_state(after)


def check_state(state: RunState) -> None:
    if state.phase in WAITING or state.example_pending:
        assert state.wait is not None, f"{state.phase} waits without a deadline"
        assert 0 < state.wait.timeout_seconds < 10_000
        assert state.wait.since <= state.num_events
        assert state.wait.what
    if state.phase in ("new", "ended"):
        assert state.wait is None
    assert state.policy is not None
    for cause, used in state.restarts_used.items():
        budget = state.policy.restarts[cause]
        assert budget < 0 or used <= budget, f"{cause}: {used} restarts of {budget}"
    if state.phase == "training":
        assert (state.gang, state.busy) == ("held", "workers")
        assert state.workers > 0
    if state.phase == "deploying":
        assert state.promoted in state.committed


class Run:
    """A run under test: a live state, its journal, and the world."""

    def __init__(self) -> None:
        self.state = RunState()
        self.journal: list[bytes] = []
        self.world = World()
        self.clock = 0.0

    def tell(self, event: ev.Event) -> Decision:
        before = self.state
        decision = decide(before, event)
        check_decision(before, event, decision)
        if decision.accepted:
            self.journal.append(ev.to_json(event))
            self.state = decision.state
            self.world.hear(event)
            for action in decision.actions:
                self.world.carry_out(action, self.state)
        for action in due(self.state):
            assert not isinstance(action, act.StartTraining) or not self.state.started
        return decision

    def check_replay(self) -> None:
        again = replay(ev.from_json(line) for line in self.journal)
        assert repr(again) == repr(self.state)  # repr, because NaN is not equal to itself


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


Maker = Callable[[random.Random, RunState, dict[str, Any]], ev.Event]

ANYTHING: list[Maker] = [
    lambda r, s, k: ev.GangPlaced(workers=r.choice([0, 1, 2, 4, 7]), **k),
    lambda r, s, k: ev.GangTimedOut(message="no room", **k),
    lambda r, s, k: ev.StoreReady(store=store_of(r), **k),
    lambda r, s, k: ev.Progressed(done=r.randrange(12), **k),
    lambda r, s, k: ev.TrainingStarted(step=s.committed_step + 1, **k),
    lambda r, s, k: ev.CheckpointCommitted(checkpoint=record_of(r, s, r.randrange(1, 12)), **k),
    lambda r, s, k: ev.CheckpointDamaged(
        folder=r.choice([c.folder for c in s.committed] or ["none"]), reason="flipped", **k
    ),
    lambda r, s, k: ev.CheckpointsDeleted(folders=s.doomed[: r.randrange(3)], **k),
    lambda r, s, k: ev.TrainingEnded(step=r.randrange(12), stopped=r.random() < 0.5, **k),
    lambda r, s, k: ev.TrainingFailed(cause=r.choice(CAUSES), message="gone", **k),
    lambda r, s, k: ev.Deployed(url="http://here", **k),
    lambda r, s, k: ev.DeployFailed(message="no", **k),
    lambda r, s, k: ev.ExampleAnswered(answer={"a": 1}, **k),
    lambda r, s, k: ev.ExampleFailed(message="500", **k),
    lambda r, s, k: ev.StopRequested(by=r.choice(["ctrl-c", "request", "sigterm"]), **k),
    lambda r, s, k: ev.Expired(
        what=s.wait.what if s.wait else "nothing", since=s.wait.since if s.wait else 0, **k
    ),
    lambda r, s, k: ev.Expired(what="something else", since=0, **k),
    lambda r, s, k: ev.Failed(exit_code=r.choice([1, 3]), message="no", **k),
    lambda r, s, k: ev.TornDown(**k),
]


def opened(rng: random.Random, state: RunState, at_seconds: float) -> ev.Opened:
    policy = random_policy(rng)
    return ev.Opened(attempt=state.attempt + 1, at_seconds=at_seconds, name="r", policy=policy)


def any_event(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    if rng.random() < 0.06:
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
        return ev.GangPlaced(workers=0 if state.trained else rng.choice(policy.workers), **stamp)
    if state.phase == "sharding":
        return ev.StoreReady(store=store_of(rng), **stamp)
    if state.phase in ("training", "stopping"):
        return likely_step(rng, state, policy.steps, stamp)
    if state.phase == "deploying":
        return ev.Deployed(url="http://here", **stamp)
    if state.phase == "serving" and state.example_pending:
        return ev.ExampleAnswered(answer=1, **stamp)
    return ev.TornDown(**stamp)


def likely_step(rng: random.Random, state: RunState, steps: int, stamp: dict[str, Any]) -> ev.Event:
    if state.phase == "stopping" and rng.random() < 0.5:
        return ev.TrainingEnded(step=state.step, stopped=True, **stamp)
    if not state.started:
        return ev.TrainingStarted(step=state.committed_step + 1, **stamp)
    if state.trained:
        return ev.TrainingEnded(step=steps, **stamp)
    step = min(steps, state.committed_step + rng.choice([1, 2, 5]))
    return ev.CheckpointCommitted(checkpoint=record_of(rng, state, step), **stamp)


@pytest.mark.parametrize("oddness", [0.02, 0.1, 0.3, 1.0])
def test_random_runs_keep_every_invariant(oddness: float) -> None:
    reached = set[str]()
    codes = set[int]()
    for seed in range(400):
        rng, run = random.Random(seed), Run()
        try:
            for _ in range(60):
                run.clock += rng.random() - 0.1  # the clocks of senders disagree
                odd = rng.random() < oddness
                event = (any_event if odd else likely_event)(rng, run.state, run.clock)
                run.tell(event)
                reached.add(run.state.phase)
                if run.state.outcome:
                    codes.add(run.state.outcome.exit_code)
            run.check_replay()
        except Exception as error:
            raise AssertionError(f"seed {seed}, oddness {oddness}: {error!r}") from error
    if oddness <= 0.3:  # the generator must get everywhere, or it proves nothing
        assert reached >= {*WAITING, "serving", "ended"}
    if oddness in (0.1, 0.3):
        assert codes >= {0, 1, 4, 6, 7, 130}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), max_size=40))
def test_any_sequence_of_events_is_answered_and_replays(moves: list[tuple[int, bool]]) -> None:
    run = Run()
    for seed, likely in moves:
        maker = likely_event if likely else any_event
        run.tell(maker(random.Random(seed), run.state, 0.0))
    run.check_replay()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), max_size=30), st.integers(0, 9))
def test_telling_an_event_twice_never_counts_twice(
    moves: list[tuple[int, bool]], which: int
) -> None:
    """A sender that got no reply repeats itself: no second reservation, restart or commit."""
    run = Run()
    for seed, likely in moves:
        maker = likely_event if likely else any_event
        event = maker(random.Random(seed), run.state, 0.0)
        if isinstance(event, ev.Progressed):
            continue  # renewing a wait twice is no harm
        first = run.tell(event)
        if first.accepted:
            attempt, restarts = run.state.attempt, run.state.num_restarts
            commits = run.state.committed
            run.tell(event)
            assert (run.state.attempt, run.state.num_restarts) == (attempt, restarts)
            assert run.state.committed == commits


def test_every_wait_ends_the_run_if_nothing_ever_comes() -> None:
    """Nothing hangs: from wherever random runs get to, expiries alone lead to the end."""
    for seed in range(300):
        rng, run = random.Random(seed), Run()
        for _ in range(rng.randrange(1, 40)):
            maker = any_event if rng.random() < 0.1 else likely_event
            run.tell(maker(rng, run.state, 0.0))
        if run.state.policy is None:
            continue
        patience = 60
        while run.state.phase != "ended" and run.state.wait is not None and patience:
            patience -= 1
            wait = run.state.wait
            run.tell(
                ev.Expired(
                    attempt=run.state.attempt, at_seconds=0.0, what=wait.what, since=wait.since
                )
            )
        unlimited = run.state.policy.restarts["hang"] == -1
        serving = run.state.phase == "serving"
        assert run.state.phase == "ended" or serving or unlimited, f"seed {seed}"


def test_every_kind_of_event_survives_json() -> None:
    rng, state = random.Random(0), RunState(attempt=3)
    stamp = {"attempt": 3, "at_seconds": 1.5}
    made = [maker(rng, state, stamp) for maker in ANYTHING] + [opened(rng, state, 2.0)]
    made.append(
        ev.CheckpointCommitted(
            checkpoint=CheckpointRecord(
                step=1, attempt=3, folder="f", metrics={"a": float("inf"), "b": float("nan")}
            ),
            **stamp,
        )
    )
    assert {type(event) for event in made} == set(ev.EVENT_TYPES)
    for event in made:
        assert repr(ev.from_json(ev.to_json(event))) == repr(event)
