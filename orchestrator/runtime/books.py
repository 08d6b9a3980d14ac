"""What does the coordinator hold of one run, and how does an event change it?

Everything that must not be lost is in the journal; the rest can be found anew. Whoever calls holds
the run's lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.coordinator.actions import Action, DeleteCheckpoints
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.events import CheckpointCommitted, CheckpointsDeleted, Event
from orchestrator.coordinator.state import CheckpointRecord, RunState
from orchestrator.errors import Fenced, StorageError
from orchestrator.observe.journal import Journal
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.parallel.manifest import MANIFEST, CheckpointManifest, write_manifest
from orchestrator.plan.plan import Plan
from orchestrator.runtime.ears import Ears
from orchestrator.runtime.hangs import Hangs
from orchestrator.runtime.messages import Reply, RunRef
from orchestrator.storage import Storage


@dataclass
class Book:
    """One run, open in this actor.

    ``pending`` are actions for the driver's next pulse, ``records`` what it is to show.
    ``stopping`` and ``leaving`` are attempts whose workers are told to stop, now or with their next
    checkpoint; ``told_drains`` the nodes of which the run knows that they go. ``last_step`` is the
    newest record of a step.
    """

    ref: RunRef
    storage: Storage
    journal: Journal
    state: RunState
    plan: Plan | None = None
    metrics: MetricsLog | None = None
    pending: list[Action] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    last_step: dict[str, Any] | None = None
    heard_at: float = field(default_factory=time.monotonic)
    progressed_at: float = 0.0
    stopping: int = 0
    leaving: int = 0
    told_drains: set[str] = field(default_factory=set)
    ears: Ears = field(default_factory=Ears)
    hangs: Hangs = field(default_factory=Hangs)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def stamp(self) -> dict[str, Any]:
        """Whose event it is, and when, for one that happens here."""
        return {"attempt": self.state.attempt, "at_seconds": time.time()}

    def apply(self, event: Event, before: Callable[[], None] | None = None) -> Reply:
        """Decide, make durable, take over; ``before`` is done once the event is accepted and
        before the journal says so.

        Events are dated by this process, so that no sender's clock is ever compared with another.
        """
        dated = replace(event, at_seconds=time.time())
        decision = decide(self.state, dated)
        if decision.accepted:
            if before is not None:
                before()
            self.journal.append(dated)
            self.state = decision.state
            self.journal.compact(self.state)
        return Reply(self.state, decision.actions, decision.verdict, decision.note)

    def say(self, text: str) -> None:
        """One line for the person; what goes on being so is said once."""
        record = {"kind": "watch", "text": text}
        if record not in self.records[-1:]:
            self.records.append(record)

    def keep(self, records: Sequence[dict[str, Any]]) -> None:
        """Take in what a worker sent: for the driver's next pulse, and as the run's metrics."""
        attempt = self.state.attempt
        if self.metrics is None or self.metrics.attempt != attempt:
            self.metrics = MetricsLog(self.storage, attempt)
        self.records.extend(records)
        steps = (record for record in reversed(records) if record.get("kind") == "step")
        self.last_step = next(steps, self.last_step)
        self.hangs.seat(attempt, records)
        self.metrics.extend(records)

    def tell(self, event: Event) -> Reply:
        """Apply an event that happened here, and have done what follows from it."""
        reply = self.apply(event)
        self.carry_out(reply)
        return reply

    def carry_out(self, reply: Reply) -> None:
        """Do at once what needs no driver; leave the rest, in order, for its next pulse."""
        if all(isinstance(action, DeleteCheckpoints) for action in reply.actions):
            for action in reply.actions:
                assert isinstance(action, DeleteCheckpoints)
                with suppress(StorageError):  # they are asked for again with the next checkpoint
                    self.delete(action.folders)
        else:
            self.pending.extend(reply.actions)

    def delete(self, folders: Sequence[str]) -> Reply:
        """Remove superseded checkpoints from storage. Raises ``StorageError``; they stay doomed."""
        for folder in folders:
            if self.storage.exists(folder):
                self.storage.delete_dir(folder)
        return self.apply(CheckpointsDeleted(folders=tuple(folders), **self.stamp()))

    def commit(self, manifest: CheckpointManifest) -> None:
        """Make a checkpoint exist: write its manifest, then journal it.

        Raises ``Fenced`` when a later attempt owns the run; nothing is written then.
        """
        if manifest.attempt != self.state.attempt:
            raise Fenced(
                f"attempt {manifest.attempt} may not commit: "
                f"attempt {self.state.attempt} owns {self.ref.name}"
            )
        if self.metrics is not None:
            self.metrics.flush()  # what was done up to here outlives this process with it
        reply = self._write(self._committed(manifest), manifest)
        if reply.verdict == "ignored":
            return  # committed before, by a call whose reply was lost
        if reply.verdict != "accepted":
            raise Fenced(f"{self.ref.name}: step {manifest.step} is not committed: {reply.note}")
        self.carry_out(reply)

    def _committed(self, manifest: CheckpointManifest) -> CheckpointCommitted:
        record = CheckpointRecord(
            step=manifest.step,
            attempt=manifest.attempt,
            folder=manifest.folder,
            metrics=dict(manifest.metrics),
            size_bytes=manifest.size_bytes,
            at_seconds=time.time(),
        )
        return CheckpointCommitted(
            attempt=manifest.attempt,
            at_seconds=time.time(),
            checkpoint=record,
            ahead_seconds=self.ears.ahead_seconds(manifest.step),
            stall_seconds=self.ears.stall_seconds,
            checkpoint_seconds=self.ears.checkpoint_seconds,
        )

    def _write(self, event: CheckpointCommitted, manifest: CheckpointManifest) -> Reply:
        """A manifest that the journal could not be told of must not stay: it would be a
        checkpoint that nobody resumes from and nobody deletes."""
        try:
            return self.apply(event, lambda: write_manifest(self.storage, manifest))
        except StorageError:
            place = f"{manifest.folder}/{MANIFEST}"
            with suppress(StorageError):
                if self.storage.exists(place):
                    self.storage.delete(place)
            raise
