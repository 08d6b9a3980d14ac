"""What must hold after every single event of every run, and the books that tell whether it does.

``World`` carries actions out the way a driver does and keeps its own books of what is held;
``Run`` tells events to a run, checks, and remembers the journal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import Decision, decide, due, replay
from orchestrator.coordinator.ledger import PARTS
from orchestrator.coordinator.oom import legal_sizes, micro_batch_of
from orchestrator.coordinator.state import RunState

WAITING = ("reserving", "sharding", "training", "stopping", "deploying", "ending")


@dataclass
class World:
    """What there is outside the coordinator, by the actions alone."""

    reserved: bool = False
    workers_alive: int = 0
    live_attempt: int = 0
    data_alive: bool = False
    app_up: bool = False
    asked: list[act.Action] = field(default_factory=list)

    def carry_out(self, action: act.Action, state: RunState) -> None:
        match action:
            case act.ReserveGang():
                assert not self.reserved, "a second reservation beside the first"
                assert not self.workers_alive
                assert not self.data_alive
                check_reservation(action, state)
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
                assert action.attempt > self.live_attempt, "an attempt began twice"
                check_start(action, state)
                self.workers_alive, self.live_attempt = action.workers, action.attempt
            case act.StopTraining():
                assert self.workers_alive, "nobody is there to be stopped"
                assert action.attempt == self.live_attempt
                assert action.timeout_seconds > 0
            case act.KillTraining():
                self.workers_alive = 0
            case act.DeleteCheckpoints():
                kept = {record.folder for record in state.committed}
                assert not kept & set(action.folders), "a committed checkpoint was deleted"
                if state.app != "none" and state.promoted:
                    assert state.promoted.folder not in action.folders
            case act.Deploy():
                assert not self.workers_alive
                assert action.folder in [record.folder for record in state.committed]
                assert self.reserved or not action.hand_over, "there is nothing to hand over"
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
            self.workers_alive = 0
        if isinstance(event, ev.StoreReady):
            self.data_alive = False

    def check(self, state: RunState) -> None:
        """The state knows what is held: neither more, nor less."""
        held = state.gang != "none"
        assert held or not self.reserved, "a bundle is leaked"
        if state.phase not in ("ending", "ended"):  # there it is kept in mind until confirmed
            assert self.reserved or not held, "a bundle is only believed in"
        if self.workers_alive:
            assert self.workers_alive == state.workers, "a part of a gang is running"
            assert state.gang == "held"
            assert state.busy == "workers"
        assert self.data_alive <= (state.busy == "data")


def check_reservation(action: act.ReserveGang, state: RunState) -> None:
    policy = state.policy
    assert policy is not None
    assert 0 <= action.tried < policy.gang_attempts
    assert (0.0 if action.tried == 0 else 1.0) <= action.backoff_seconds <= 30.0
    assert {*state.excluded, *state.suspects} == set(action.excluded)
    assert set(action.workers) <= set(policy.workers)
    assert bool(action.workers) != state.trained
    if state.most_workers is not None:
        assert all(count <= state.most_workers for count in action.workers)
    assert state.wait is not None
    assert state.wait.timeout_seconds > action.timeout_seconds + action.backoff_seconds


def check_start(action: act.StartTraining, state: RunState) -> None:
    policy = state.policy
    assert policy is not None
    assert action.attempt == state.attempt
    assert action.workers == state.workers
    assert action.workers in policy.workers
    folders = [record.folder for record in state.committed]
    assert action.resume == (folders[-1] if folders else None)
    assert action.first_step == state.committed_step
    sizes = policy.micro_batches.get(action.workers, ())
    if action.micro_batch is not None and sizes:
        assert action.micro_batch in sizes
        assert action.micro_batch <= (state.micro_batch or 0) or action.micro_batch == sizes[-1]
    assert set(state.nodes).isdisjoint(state.excluded), "workers start on a node that is given up"


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
    check_restart(before, event, after)
    check_ledger(before, event, after)


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
        assert state.drain is None
    if state.phase == "stopping":
        assert state.stop or state.drain or state.resize, "nobody asked the workers to leave"
    if state.phase == "deploying":
        assert state.promoted in state.committed
    if state.phase != "reserving":
        assert state.queue is None
    if state.phase not in ("training", "stopping"):
        assert state.drain is None
        assert state.resize is None or state.resize.left
    assert state.num_crowded_out <= state.policy.gang_attempts
    assert set(state.excluded).isdisjoint(state.suspects)
    if state.gang == "none":
        assert (state.workers, state.nodes) == (0, ())


def check_restart(before: RunState, event: ev.Event, after: RunState) -> None:
    """A restart is paid for by the budget of its cause, or is no loss."""
    if isinstance(event, ev.Opened) or after.attempt == before.attempt:
        return
    paid = sum(after.restarts_used.values()) - sum(before.restarts_used.values())
    damaged = isinstance(event, ev.CheckpointDamaged)
    damaged = damaged or (isinstance(event, ev.DeployFailed) and not before.trained)
    assert paid + after.num_resizes - before.num_resizes + damaged == 1
    assert after.num_restarts - before.num_restarts == paid
    out_of_memory = isinstance(event, ev.TrainingFailed) and event.cause == "oom"
    if out_of_memory and legal_sizes(before):
        tried = micro_batch_of(before) or max(legal_sizes(before))
        assert after.micro_batch is not None
        assert after.micro_batch < tried, "out of memory, and retried unchanged"


def check_ledger(before: RunState, event: ev.Event, after: RunState) -> None:
    was, now = before.ledger, after.ledger
    for part in PARTS:
        assert now.seconds(part) >= was.seconds(part) >= 0.0, f"{part} went back"
    assert now.held_seconds >= 0.0
    assert now.away_seconds >= was.away_seconds
    assert now.worker_seconds >= was.worker_seconds
    passed = max(0.0, event.at_seconds - was.until_seconds)
    if isinstance(event, ev.Opened):
        passed = 0.0
    away = now.away_seconds - was.away_seconds
    if away and not isinstance(event, ev.Opened):
        assert math.isclose(away, passed)
        passed = 0.0
    assert math.isclose(now.wall_seconds, was.wall_seconds + passed, abs_tol=1e-6)
    if not after.stepping:
        assert now.held_seconds == 0.0


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
            self.world.check(self.state)
        for action in due(self.state):
            assert not isinstance(action, act.StartTraining) or not self.state.started
        return decision

    def check_replay(self) -> None:
        again = replay(ev.from_json(line) for line in self.journal)
        assert repr(again) == repr(self.state)  # repr, because NaN is not equal to itself
