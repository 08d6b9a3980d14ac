"""Writes what a run leaves on storage, without running it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.policy import Promotion, RunPolicy
from orchestrator.coordinator.state import BadFile, CheckpointRecord, RunState, StoreRecord
from orchestrator.observe.journal import Journal
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.storage import Storage

BEGIN_SECONDS = 1_790_000_000.0
POLICY = RunPolicy(
    steps=200,
    workers=(2,),
    restarts={"worker": 5, "user": 0},
    keep=2,
    gang_timeout_seconds=120.0,
    start_timeout_seconds=300.0,
    stop_timeout_seconds=60.0,
    promotion=Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=6.0),
    has_example=True,
    replicas=1,
)
STORE = StoreRecord(
    key="5f2c",
    content_hash="90ab",
    num_samples=72_345,
    num_shards=8,
    size_bytes=18_730_112,
    folder="/data/runs/stores/5f2c",
    num_bad_files=2,
    bad_files=(
        BadFile(path="lib/bad.py", reason="not utf-8 at byte 17"),
        BadFile(path="lib/empty|odd.py", reason="permission denied"),
    ),
)


class PastRun:
    """Appends accepted events, each a second after the last."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage.child(name)
        self.name = name
        self.journal = Journal(self.storage)
        self.state = RunState()
        self.clock = BEGIN_SECONDS

    def tell(self, kind: type[ev.BaseEvent], after_seconds: float = 1.0, **details: Any) -> None:
        """Accept an event; it must be one that the coordinator accepts."""
        self.clock += after_seconds
        attempt = self.state.attempt + (kind is ev.Opened)
        event = kind(attempt=attempt, at_seconds=self.clock, **details)
        decision = decide(self.state, event)  # type: ignore[arg-type]
        assert decision.accepted, decision.note
        self.journal.append(event)  # type: ignore[arg-type]
        self.state = decision.state

    def open(self, **changes: Any) -> None:
        """A driver starts."""
        self.tell(ev.Opened, name=self.name, policy=replace(POLICY, **changes))

    def to_training(self) -> None:
        """Gang and store are there, the first step is taken."""
        self.tell(ev.GangPlaced, workers=2)
        if not self.state.store_ready:
            self.tell(ev.StoreReady, after_seconds=12.0, store=STORE)
        self.tell(ev.TrainingStarted, after_seconds=9.0, step=self.state.committed_step + 1)

    def steps(self, first: int, last: int) -> None:
        """Step records, a quarter of a second each."""
        with MetricsLog(self.storage, self.state.attempt) as log:
            for step in range(first, last + 1):
                log.append(
                    {
                        "kind": "step",
                        "step": step,
                        "loss": 5.6 * 0.99**step + 0.5,
                        "step_seconds": 0.25,
                        "data_seconds": 0.001,
                        "num_samples": 32,
                    }
                )

    def commit(self, step: int, val_loss: float | None) -> None:
        """A checkpoint, with what evaluation said."""
        record = CheckpointRecord(
            step=step,
            attempt=self.state.attempt,
            folder=f"checkpoints/step-{step:08d}-attempt-{self.state.attempt:04d}",
            metrics={} if val_loss is None else {"val_loss": val_loss},
            size_bytes=5_242_880,
        )
        self.tell(ev.CheckpointCommitted, after_seconds=25.0, checkpoint=record)

    def serve(self) -> None:
        """The app comes up and answers."""
        self.tell(ev.TrainingEnded, step=200)
        self.tell(ev.Deployed, after_seconds=6.0, url="http://127.0.0.1:8000/gpt")
        self.tell(
            ev.ExampleAnswered,
            request={"prompt": "def it's", "max_tokens": 16},
            answer={"text": "def it(self):"},
            checkpoint="checkpoints/step-00000200-attempt-0002",
            seconds=0.187,
        )
        self.tell(ev.TornDown)


def whole_run(storage: Storage, name: str = "gpt") -> PastRun:
    """A run that lost a worker after step 130, went on from step 100, and served."""
    run = PastRun(storage, name)
    run.open()
    run.to_training()
    run.steps(1, 130)
    run.commit(50, 5.02)
    run.commit(100, 4.11)
    run.tell(ev.TrainingFailed, cause="worker", message="rank 1 was killed by signal 9")
    run.to_training()
    run.steps(101, 200)
    run.commit(150, 3.5)
    run.commit(200, 3.21)
    run.serve()
    return run
