"""Who decides, remembers and commits? One actor per cluster, for all of its runs.

A thin shell around ``coordinator.decide``: it journals every accepted event, applies it, and
carries out what needs no driver (reserving, committing, deleting). It keeps nothing that
cannot be read back from a run's journal, so an actor that Ray restarts goes on where its
predecessor stood. It does not know how data, training or serving are done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.coordinator.actions import Action, DeleteCheckpoints, ReserveGang
from orchestrator.coordinator.decide import Decision, decide, due
from orchestrator.coordinator.events import (
    CheckpointCommitted,
    CheckpointDamaged,
    CheckpointsDeleted,
    Event,
    Failed,
    GangPlaced,
    GangTimedOut,
    Opened,
    Progressed,
    TrainingStarted,
)
from orchestrator.coordinator.placement import Chosen, Gang, choose_gang
from orchestrator.coordinator.state import CheckpointRecord, RunState
from orchestrator.errors import (
    AxisError,
    Fenced,
    InfeasibleError,
    PlacementTimeout,
    StorageError,
)
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.parallel.channel import StuckReport
from orchestrator.parallel.manifest import MANIFEST, CheckpointManifest, write_manifest
from orchestrator.parallel.upkeep import mark_damaged
from orchestrator.plan.plan import Plan
from orchestrator.runtime import gang as gangs
from orchestrator.runtime.cluster import live_nodes
from orchestrator.runtime.hangs import Hangs
from orchestrator.storage import Storage

COORDINATOR = "axis-coordinator"
"""The actor's name in the namespace of all runs."""

DRIVER_SILENCE_SECONDS = 30.0
"""A run whose driver has not polled for so long loses its reservation."""

_PROGRESS_SECONDS = 30.0
_NODE_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class RunRef:
    """Which run is meant, and where its journal lies."""

    name: str
    uri: str


@dataclass(frozen=True)
class Reply:
    """What became of an event, and what the driver is to do next, in order."""

    state: RunState
    actions: tuple[Action, ...]
    verdict: str
    note: str


@dataclass(frozen=True)
class Pulse:
    """Where a run stands right now. ``records`` are the step records since the last pulse."""

    state: RunState
    actions: tuple[Action, ...]
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Directive:
    """What a worker is told when it reports."""

    stop: bool = False
    fenced: bool = False
    explain: bool = False
    """Say where you are: another worker takes too long."""


@dataclass
class _Run:
    """What the actor holds of one run, beyond its journal: nothing that may not be lost."""

    storage: Storage
    journal: Journal
    state: RunState
    metrics: MetricsLog | None = None
    gang: Gang | None = None
    pending: list[Action] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    heard_at: float = 0.0
    progressed_at: float = 0.0
    stopping_attempt: int = 0
    hangs: Hangs = field(default_factory=Hangs)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Coordinator:
    """The actor. Calls may run at the same time; each run has a lock of its own."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="axis-watch", daemon=True).start()

    def ping(self) -> str:
        """Answers when the actor is up."""
        return COORDINATOR

    def open(self, ref: RunRef, event: Opened) -> Reply:
        """Begin a new attempt of a run. Its number is given here, and fences all before."""
        run = self._run(ref)
        with run.lock:
            run.heard_at = time.monotonic()
            numbered = replace(event, attempt=run.state.attempt + 1)
            reply = self._apply(run, numbered)
            run.pending.clear()
            run.records.clear()
            return reply

    def tell(self, ref: RunRef, event: Event) -> Reply:
        """Accept, ignore or refuse an event; accepted events are on storage when this returns."""
        run = self._run(ref)
        with run.lock:
            run.heard_at = time.monotonic()
            reply = self._apply(run, event)
            if isinstance(event, CheckpointDamaged) and reply.verdict == "accepted":
                with suppress(StorageError):  # the journal knows it already
                    mark_damaged(run.storage, event.folder, event.reason)
            return reply

    def pulse(self, ref: RunRef) -> Pulse:
        """Where the run stands, and the driver's sign of life."""
        run = self._run(ref)
        with run.lock:
            run.heard_at = time.monotonic()
            actions, run.pending = tuple(run.pending), []
            records, run.records = tuple(run.records), []
            return Pulse(run.state, actions, records)

    def due(self, ref: RunRef) -> tuple[Action, ...]:
        """The actions of the present phase again, for a driver that missed a reply."""
        run = self._run(ref)
        with run.lock:
            return due(run.state)

    def reserve(self, ref: RunRef, plan: Plan, action: ReserveGang) -> Reply:
        """Place the gang, all or nothing, for the largest worker count that the nodes hold."""
        run = self._run(ref)
        event = self._place(run, plan, action)
        with run.lock:
            return self._apply(run, event)

    def release(self, ref: RunRef) -> None:
        """Give back every bundle of the run."""
        run = self._run(ref)
        for attempt in range(max(1, run.state.attempt - 1), run.state.attempt + 1):
            gangs.release(gangs.gang_name(ref.name, attempt))
        run.gang = None

    def reservation(self, ref: RunRef, attempt: int) -> tuple[Gang, Any] | None:
        """The gang of the attempt and its placement group, once it is placed."""
        run = self._run(ref)
        group = gangs.find(gangs.gang_name(ref.name, attempt))
        return (run.gang, group) if run.gang is not None and group is not None else None

    def delete_checkpoints(self, ref: RunRef, folders: Sequence[str]) -> Reply:
        """Remove superseded checkpoints from storage."""
        run = self._run(ref)
        with run.lock:
            return self._delete(run, folders)

    def report(self, ref: RunRef, attempt: int, records: Sequence[dict[str, Any]]) -> Directive:
        """Take the step records of a worker; answers whether it should stop."""
        run = self._run(ref)
        with run.lock:
            if attempt != run.state.attempt:
                return Directive(stop=True, fenced=True)
            self._note_progress(run, records)
            return Directive(stop=run.stopping_attempt == attempt, explain=run.hangs.asked(attempt))

    def stuck(self, ref: RunRef, attempt: int, report: StuckReport, node: str) -> None:
        """A worker takes too long, or says where it is; a moment later the group is given up."""
        run = self._run(ref)
        with run.lock:
            if attempt == run.state.attempt:
                run.hangs.hear(attempt, report, node, lambda: self._give_up(run, attempt))

    def stop_training(self, ref: RunRef, attempt: int) -> None:
        """From now on, workers of that attempt are told to stop when they report."""
        run = self._run(ref)
        with run.lock:
            run.stopping_attempt = attempt

    def commit(self, ref: RunRef, manifest: CheckpointManifest) -> None:
        """Make a checkpoint exist: write its manifest, then journal it.

        Raises ``Fenced`` when a later attempt owns the run; nothing is written then.
        """
        run = self._run(ref)
        with run.lock:
            if manifest.attempt != run.state.attempt:
                raise Fenced(
                    f"attempt {manifest.attempt} may not commit: "
                    f"attempt {run.state.attempt} owns {ref.name}"
                )
            record = CheckpointRecord(
                step=manifest.step,
                attempt=manifest.attempt,
                folder=manifest.folder,
                metrics=dict(manifest.metrics),
                size_bytes=manifest.size_bytes,
                at_seconds=time.time(),
            )
            event = CheckpointCommitted(
                attempt=manifest.attempt, at_seconds=time.time(), checkpoint=record
            )
            reply = self._commit(run, event, manifest)
            if reply.verdict == "ignored":
                return  # committed before, by a call whose reply was lost
            if reply.verdict != "accepted":
                raise Fenced(f"{ref.name}: step {manifest.step} is not committed: {reply.note}")
            self._carry_out(run, reply)

    def close(self, ref: RunRef) -> bool:
        """Forget a run; answers whether the coordinator has none left."""
        with self._lock:
            run = self._runs.pop(ref.uri, None)
            if run is not None and run.metrics is not None:
                run.metrics.flush()
            return not self._runs

    # ------------------------------------------------------------------ inside

    def _run(self, ref: RunRef) -> _Run:
        with self._lock:
            run = self._runs.get(ref.uri)
            if run is None:
                storage = Storage.open(ref.uri)
                journal = Journal(storage)
                run = _Run(storage, journal, replay_state(journal))
                run.heard_at = time.monotonic()
                self._runs[ref.uri] = run
            return run

    def _apply(self, run: _Run, event: Event, before: Callable[[], None] | None = None) -> Reply:
        """Decide, make durable, take over; ``before`` is done once the event is accepted and
        before the journal says so."""
        decision: Decision = decide(run.state, event)
        if decision.accepted:
            if before is not None:
                before()
            run.journal.append(event)
            run.state = decision.state
        return Reply(run.state, decision.actions, decision.verdict, decision.note)

    def _commit(self, run: _Run, event: CheckpointCommitted, manifest: CheckpointManifest) -> Reply:
        """A manifest that the journal could not be told of must not stay: it would be a
        checkpoint that nobody resumes from and nobody deletes."""
        try:
            return self._apply(run, event, lambda: write_manifest(run.storage, manifest))
        except StorageError:
            place = f"{manifest.folder}/{MANIFEST}"
            with suppress(StorageError):
                if run.storage.exists(place):
                    run.storage.delete(place)
            raise

    def _carry_out(self, run: _Run, reply: Reply) -> None:
        """Do at once what needs no driver; leave the rest, in order, for its next pulse."""
        if all(isinstance(action, DeleteCheckpoints) for action in reply.actions):
            for action in reply.actions:
                assert isinstance(action, DeleteCheckpoints)
                self._delete(run, action.folders)
        else:
            run.pending.extend(reply.actions)

    def _delete(self, run: _Run, folders: Sequence[str]) -> Reply:
        for folder in folders:
            if run.storage.exists(folder):
                run.storage.delete_dir(folder)
        event = CheckpointsDeleted(
            attempt=run.state.attempt, at_seconds=time.time(), folders=tuple(folders)
        )
        return self._apply(run, event)

    def _place(self, run: _Run, plan: Plan, action: ReserveGang) -> Event:
        attempt = action.attempt
        deadline = time.monotonic() + action.timeout_seconds
        try:
            chosen = self._choose(run, plan, action, deadline)
            gang = chosen.gang
            name = gangs.gang_name(plan.name, attempt)
            left_seconds = max(0.0, deadline - time.monotonic())
            gangs.place(name, gang, action.strategy, left_seconds)
        except InfeasibleError as error:
            code, now = error.exit_code, time.time()
            return Failed(attempt=attempt, at_seconds=now, exit_code=code, message=str(error))
        except PlacementTimeout as error:
            return GangTimedOut(attempt=attempt, at_seconds=time.time(), message=str(error))
        run.gang = gang
        return GangPlaced(
            attempt=attempt, at_seconds=time.time(), workers=gang.workers, note=chosen.reason
        )

    def _choose(self, run: _Run, plan: Plan, action: ReserveGang, deadline: float) -> Chosen:
        """The gang to ask for. While a loss is being repaired nodes may still come back, so
        what does not fit now is waited for; a run that begins is refused at once."""
        before = run.state.last_workers if run.state.recovering else None
        while True:
            try:
                return choose_gang(plan, live_nodes(), action.workers, before)
            except InfeasibleError as error:
                if run.state.recovering is None:
                    raise
                if time.monotonic() >= deadline:
                    raise PlacementTimeout(str(error)) from error
            time.sleep(_NODE_POLL_SECONDS)

    def _give_up(self, run: _Run, attempt: int) -> None:
        """Tell whom the others wait for; the driver takes the group down with its next pulse."""
        with run.lock:
            if attempt != run.state.attempt:
                return
            event = run.hangs.verdict(attempt, run.state.workers)
            self._carry_out(run, self._apply(run, event))
            record = {"kind": "hang", "text": event.message, "stack": event.user_traceback}
            run.records.append({**record, "rank": event.rank})

    def _note_progress(self, run: _Run, records: Sequence[dict[str, Any]]) -> None:
        if not records:
            return
        now, state = time.time(), run.state
        if run.metrics is None or run.metrics.attempt != state.attempt:
            run.metrics = MetricsLog(run.storage, state.attempt)
        for record in records:
            run.metrics.append(record)
        run.metrics.flush()
        run.records.extend(records)
        run.hangs.seat(state.attempt, records)
        steps = [int(record["step"]) for record in records if record.get("kind") == "step"]
        if not steps:
            return
        if not state.started:
            self._apply(
                run, TrainingStarted(attempt=state.attempt, at_seconds=now, step=min(steps))
            )
            run.progressed_at = time.monotonic()
        elif time.monotonic() - run.progressed_at > _PROGRESS_SECONDS:
            run.progressed_at = time.monotonic()
            event = Progressed(attempt=state.attempt, at_seconds=now, done=max(steps))
            self._apply(run, event)

    def _watch(self) -> None:
        """Give back what belongs to drivers that are gone without a word."""
        while True:
            time.sleep(1.0)
            with self._lock:
                runs = list(self._runs.items())
            for uri, run in runs:
                if time.monotonic() - run.heard_at < DRIVER_SILENCE_SECONDS:
                    continue
                try:
                    self.release(RunRef(run.state.name, uri))
                    self.close(RunRef(run.state.name, uri))
                except AxisError:
                    continue  # tried again in a second; the journal already tells the story
