"""Who decides, remembers and commits? One actor per cluster, for all of its runs.

A thin shell around ``coordinator.decide``: it journals every accepted event, applies it, and
carries out what needs no driver (reserving, committing, deleting). It keeps nothing that
cannot be read back from a run's journal and from the placement groups that are there, so an actor
that Ray restarts goes on where its predecessor stood. It does not know how data, training or
serving are done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestrator.coordinator.actions import Action, ReserveGang
from orchestrator.coordinator.assignment import Assignment, verify
from orchestrator.coordinator.decide import due
from orchestrator.coordinator.entries import Grow, Position, Shrink
from orchestrator.coordinator.events import (
    CheckpointDamaged,
    Deployed,
    Event,
    Failed,
    GangPlaced,
    GangTimedOut,
    Misplaced,
    Opened,
    Progressed,
    Queued,
    ResizeWanted,
    Straggler,
    TrainingStarted,
    YieldOver,
)
from orchestrator.coordinator.stragglers import Slow
from orchestrator.errors import AxisError, InfeasibleError, PlacementTimeout, StorageError
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.parallel.channel import StuckReport
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.parallel.upkeep import mark_damaged
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import mesh_for
from orchestrator.runtime import gang as gangs
from orchestrator.runtime.books import Book
from orchestrator.runtime.cluster import live_nodes
from orchestrator.runtime.ears import Ears, is_for_ears
from orchestrator.runtime.internals.state import draining_nodes, free_by_node
from orchestrator.runtime.memory import KillCount
from orchestrator.runtime.messages import Directive, Pulse, Reply, RunRef
from orchestrator.runtime.meters import Meters
from orchestrator.runtime.placement import adopted, why_these
from orchestrator.runtime.probe import Probes
from orchestrator.runtime.scheduler import Scheduler
from orchestrator.runtime.turns import Ask
from orchestrator.runtime.watch import DRIVER_SILENCE_SECONDS, Watch
from orchestrator.storage import Storage

__all__ = ["COORDINATOR", "DRIVER_SILENCE_SECONDS", "Coordinator", "Directive", "Pulse", "Reply"]

COORDINATOR = "axis-coordinator"
"""The actor's name in the namespace of all runs."""

_PROGRESS_SECONDS = 30.0


class Coordinator:
    """The actor. Calls may run at the same time; each run has a lock of its own."""

    def __init__(self) -> None:
        self._books: dict[str, Book] = {}
        self._lock = threading.Lock()
        self._scheduler = Scheduler(self, live_nodes, free_by_node)
        self._meters = Meters()
        probes, show = Probes(), self._meters.show
        Watch(self._open_books, self._abandon, draining_nodes, _live, probes, show).start()

    def ping(self) -> str:
        """Answers when the actor is up."""
        return COORDINATOR

    def open(self, ref: RunRef, event: Opened, plan: Plan | None = None) -> Reply:
        """Begin a new attempt of a run. Its number is given here, and fences all before."""
        book = self._book(ref)
        with book.lock:
            book.heard_at = time.monotonic()
            book.plan = plan or book.plan
            numbered = replace(event, attempt=book.state.attempt + 1)
            reply = book.apply(numbered)
            book.pending.clear()
            book.records.clear()
            book.told_drains.clear()
            return reply

    def tell(self, ref: RunRef, event: Event) -> Reply:
        """Accept, ignore or refuse an event; accepted events are on storage when this returns."""
        book = self._book(ref)
        with book.lock:
            book.heard_at = time.monotonic()
            reply = book.apply(event)
            if isinstance(event, CheckpointDamaged) and reply.verdict == "accepted":
                with suppress(StorageError):  # the journal knows it already
                    mark_damaged(book.storage, event.folder, event.reason)
        if isinstance(event, Deployed):
            self._scheduler.forget_claim(ref.uri)
        self._scheduler.avoid(ref.uri, (*book.state.excluded, *book.state.suspects))
        return reply

    def pulse(self, ref: RunRef) -> Pulse:
        """Where the run stands, and the driver's sign of life."""
        book = self._book(ref)
        with book.lock:
            book.heard_at = time.monotonic()
            actions, book.pending = tuple(book.pending), []
            records, book.records = tuple(book.records), []
            return Pulse(book.state, actions, records)

    def due(self, ref: RunRef) -> tuple[Action, ...]:
        """The actions of the present phase again, for a driver that missed a reply."""
        book = self._book(ref)
        with book.lock:
            return due(book.state)

    def reserve(self, ref: RunRef, plan: Plan, action: ReserveGang) -> Reply:
        """Place the gang, all or nothing, when the run's turn comes."""
        book = self._book(ref)
        book.plan = plan
        event = self._place(book, plan, action)
        with book.lock:
            return book.apply(event)

    def release(self, ref: RunRef) -> None:
        """Give back every bundle of the run, and what it waits for."""
        book = self._book(ref)
        attempt = book.state.attempt
        keep = book.state.phase in ("reserving", "deploying")  # it is about to be wanted again
        self._scheduler.release(ref.uri, ref.name, (max(1, attempt - 1), attempt), keep)

    def reservation(self, ref: RunRef, attempt: int) -> tuple[Assignment, Any] | None:
        """Where the gang of the attempt lies, and its placement group, once it is placed."""
        self._book(ref)
        assignment = self._scheduler.assignment(ref.uri)
        group = gangs.find(gangs.gang_name(ref.name, attempt))
        return (assignment, group) if assignment is not None and group is not None else None

    def delete_checkpoints(self, ref: RunRef, folders: Sequence[str]) -> Reply:
        """Remove superseded checkpoints from storage."""
        book = self._book(ref)
        with book.lock:
            return book.delete(folders)

    def report(
        self, ref: RunRef, attempt: int, records: Sequence[dict[str, Any]], rank: int = 0
    ) -> Directive:
        """Take what a worker has to say; answers whether it should stop."""
        book = self._book(ref)
        with book.lock:
            if attempt != book.state.attempt:
                return Directive(stop=True, fenced=True)
            for take in (self._note_progress, self._listen):
                try:
                    take(book, rank, records)
                except StorageError as error:  # what has to be durable is told again, or committed
                    book.say(f"storage refuses what is written about the run: {error}")
            return Directive(
                stop=book.stopping == attempt,
                explain=book.hangs.asked(attempt),
                leave_at_checkpoint=book.leaving == attempt,
            )

    def echo(self, ref: RunRef, payload: bytes) -> bytes:  # noqa: ARG002
        """The payload back, so that a worker can measure its link."""
        return payload

    def stuck(self, ref: RunRef, attempt: int, report: StuckReport, node: str) -> None:
        """A worker takes too long, or says where it is; a moment later the group is given up."""
        book = self._book(ref)
        with book.lock:
            if attempt == book.state.attempt:
                book.hangs.hear(attempt, report, node, lambda: self._give_up(book, attempt))

    def kill_count(self, ref: RunRef, attempt: int, rank: int) -> tuple[str, KillCount] | None:
        """The node of a worker, and how often the kernel had killed for memory when it began."""
        ears = self._book(ref).ears
        seat, count = ears.seats.get(rank), ears.kill_counts.get(rank)
        if ears.attempt != attempt or seat is None or count is None:
            return None
        return seat.node, count

    def stop_training(self, ref: RunRef, attempt: int, at_checkpoint: bool = False) -> None:
        """From now on, workers of that attempt are told to stop when they report."""
        book = self._book(ref)
        with book.lock:
            if at_checkpoint:
                book.leaving = attempt
            else:
                book.stopping = attempt

    def commit(self, ref: RunRef, manifest: CheckpointManifest) -> None:
        """Make a checkpoint exist. Raises ``Fenced`` when a later attempt owns the run."""
        book = self._book(ref)
        with book.lock:
            book.commit(manifest)

    def close(self, ref: RunRef) -> bool:
        """Forget a run; answers whether the coordinator has none left."""
        with self._lock:
            book = self._books.pop(ref.uri, None)
            if book is not None:
                self._meters.show(book)
                if book.metrics is not None:
                    book.metrics.flush()
            left = bool(self._books)
        self._scheduler.forget(ref.uri)
        return not left

    # ----------------------------------------------------- what the scheduler decides

    def queued(self, uri: str, position: Position) -> None:
        """The run goes on waiting, now at this place and for this reason."""
        book = self._books.get(uri)
        if book is None:
            return
        with book.lock:
            event = Queued(
                position=position.place, of=position.of, why=position.why, **book.stamp()
            )
            if book.apply(event).verdict == "accepted":
                book.records.append({"kind": "queued", "text": f"waits: {position.render()}"})

    def shrink(self, uri: str, shrink: Shrink) -> bool:
        """The run is to make room for another."""
        return self._resize(uri, "yield", shrink.workers, f"makes room for {shrink.room_for}", 0.0)

    def grow(self, uri: str, grow: Grow, since_placed_seconds: float) -> None:
        """The run may have more workers."""
        book = self._books.get(uri)
        if book is not None and book.state.most_workers is not None:
            with book.lock:
                book.tell(YieldOver(**book.stamp()))
        self._resize(uri, "grow", grow.workers, "nodes are new or free", since_placed_seconds)

    def _resize(self, uri: str, kind: Any, workers: int, note: str, since: float) -> bool:
        book = self._books.get(uri)
        if book is None:
            return False
        with book.lock:
            before = book.state.workers
            reply = book.tell(
                ResizeWanted(
                    resize=kind,
                    workers=workers,
                    note=note,
                    since_placed_seconds=since,
                    **book.stamp(),
                )
            )
            if reply.verdict == "accepted":
                when = "with the next checkpoint" if kind == "grow" else "now"
                text = f"from {before} to {workers} workers {when}: {note}"
                book.records.append({"kind": "resize", "text": text})
            return reply.verdict == "accepted"

    # ------------------------------------------------------------------ inside

    def _open_books(self) -> list[Book]:
        with self._lock:
            return list(self._books.values())

    def _abandon(self, book: Book) -> None:
        """Give back what belongs to a driver that is gone without a word."""
        with suppress(AxisError):  # tried again in a moment; the journal already tells the story
            self._scheduler.release(
                book.ref.uri,
                book.ref.name,
                (max(1, book.state.attempt - 1), book.state.attempt),
                keep=False,
            )
            self.close(book.ref)

    def _book(self, ref: RunRef) -> Book:
        with self._lock:
            book = self._books.get(ref.uri)
            if book is None:
                storage = Storage.open(ref.uri)
                journal = Journal(storage)
                book = Book(ref, storage, journal, replay_state(journal))
                self._adopt(book)
                self._books[ref.uri] = book
            return book

    def _adopt(self, book: Book) -> None:
        """A run that has held its gang since before this actor was made goes on holding it."""
        found = adopted(book.ref.name, book.storage, book.state)
        if found is not None:
            book.plan, assignment = found
            self._scheduler.adopt(book.ref.uri, book.plan, assignment)

    def _place(self, book: Book, plan: Plan, action: ReserveGang) -> Event:
        state = book.state
        repairing = state.recovering is not None or state.resize is not None
        ask = Ask(
            uri=book.ref.uri,
            plan=plan,
            attempt=action.attempt,
            workers=action.workers,
            strategy=action.strategy,
            timeout_seconds=action.timeout_seconds,
            backoff_seconds=action.backoff_seconds,
            excluded=frozenset(action.excluded),
            repairing=repairing,
        )
        stamp: dict[str, Any] = {"attempt": action.attempt, "at_seconds": time.time()}
        try:
            assignment = self._scheduler.place(ask)
        except InfeasibleError as error:
            return Failed(exit_code=error.exit_code, message=str(error), **stamp)
        except PlacementTimeout as error:
            return GangTimedOut(message=str(error), tried=action.tried, **stamp)
        return GangPlaced(
            workers=assignment.gang.workers,
            nodes=tuple(dict.fromkeys(assignment.nodes)),
            note=why_these(plan, assignment, state.last_workers if repairing else None),
            **stamp,
        )

    def _give_up(self, book: Book, attempt: int) -> None:
        """Tell whom the others wait for; the driver takes the group down with its next pulse."""
        book.hangs.examine(attempt, book.state.workers)
        with book.lock:
            if attempt != book.state.attempt:
                return
            event = book.hangs.verdict(attempt, book.state.workers)
            book.tell(event)
            record = {"kind": "hang", "text": event.message, "stack": event.user_traceback}
            book.records.append({**record, "rank": event.rank})

    def _listen(self, book: Book, rank: int, records: Sequence[dict[str, Any]]) -> None:
        ears = self._ears(book)
        was_complete = ears.is_complete
        for slow in ears.hear(rank, records, time.monotonic()):
            self._name(book, slow)
        if ears.is_complete and not was_complete:
            self._verify(book, ears.nodes_by_rank())
        shares = ears.take_shares() if rank == 0 else None
        if shares is not None and book.metrics is not None:
            book.metrics.append(shares)

    def _ears(self, book: Book) -> Ears:
        state = book.state
        if book.ears.attempt != state.attempt:
            mesh = mesh_for(book.plan, state.workers) if book.plan and state.workers else None
            book.ears = Ears(state.attempt, mesh)
        return book.ears

    def _name(self, book: Book, slow: Slow) -> None:
        event = Straggler(
            text=slow.text, rank=slow.rank, node=slow.node, ratio=slow.ratio, **book.stamp()
        )
        if book.apply(event).verdict == "accepted":
            book.records.append({"kind": "straggler", "text": slow.text})

    def _verify(self, book: Book, found: Mapping[int, str]) -> None:
        assignment = self._scheduler.assignment(book.ref.uri)
        sentences = verify(assignment, found) if assignment is not None else ()
        if sentences:
            text = "; ".join(sentences)
            book.apply(Misplaced(text=text, **book.stamp()))
            book.records.append({"kind": "misplaced", "text": text})

    def _note_progress(self, book: Book, rank: int, records: Sequence[dict[str, Any]]) -> None:  # noqa: ARG002
        records = [record for record in records if not is_for_ears(record)]
        if not records:
            return
        state = book.state
        book.keep(records)
        steps = [int(record["step"]) for record in records if record.get("kind") == "step"]
        if not steps:
            return
        if not state.started:
            book.apply(TrainingStarted(step=min(steps), **book.stamp()))
            book.progressed_at = time.monotonic()
        elif time.monotonic() - book.progressed_at > _PROGRESS_SECONDS:
            book.progressed_at = time.monotonic()
            event = Progressed(
                done=max(steps),
                stall_seconds=book.ears.stall_seconds,
                checkpoint_seconds=book.ears.checkpoint_seconds,
                **book.stamp(),
            )
            book.apply(event)


def _live() -> set[str]:
    return {node.id for node in live_nodes()}
