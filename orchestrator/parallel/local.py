"""A channel without a coordinator: records become files in the run's folder.

For ``torchrun`` and for tests. The first worker writes ``metrics.jsonl`` and the manifests; every
worker writes what its steps took, and can write the ids of its samples. A later attempt fences
this one (``attempts``). No old checkpoint is deleted.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from orchestrator.parallel.attempts import check_owner, commit
from orchestrator.parallel.channel import EvalRecord, Note, Own, Started, StepRecord, StuckReport
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.storage import Storage

_SHOW_SECONDS = 1.0
_FLUSH_SECONDS = 5.0
"""Writing for good takes 10 ms of the first worker's step, for which all others wait."""
_STUCK_GRACE_SECONDS = 2.0


class LocalChannel:
    """Writes one line of JSON per record; lines are durable some seconds later, or at a checkpoint.

    ``stop`` is asked after each step. ``show`` is called with a line to print now and then.
    ``record_ids`` adds ``ids/attempt-….jsonl`` with the samples of each step of this worker;
    ``work/attempt-….jsonl`` has what its steps took.
    Checkpoints may be saved and committed from another thread than the steps are reported from.
    """

    def __init__(
        self,
        run: Storage,
        attempt: int,
        rank: int,
        stop: Callable[[], bool] = lambda: False,
        show: Callable[[str], None] = lambda _line: None,
        record_ids: bool = False,
    ) -> None:
        self.run, self.rank, self.stop, self.show = run, rank, stop, show
        self.attempt = attempt
        self.lock = threading.Lock()
        self.metrics: list[str] = []
        self.works: list[str] = []
        self.ids: list[str] | None = [] if record_ids else None
        self.flushed = self.shown = time.monotonic()

    def started(self, info: Started) -> None:
        """Note how the batch is cut, and from which step on."""
        self._write("started", vars(info))
        self._show(
            f"{info.num_workers} workers on {info.device}, {info.num_parameters:,} parameters, "
            f"{info.num_train:,} samples; steps {info.step} to {info.steps} with "
            f"{info.accumulation} × {info.micro_batch} samples per worker"
        )

    def report(self, record: StepRecord) -> None:
        """Note a step."""
        self._write("step", record.to_dict())
        if self.ids is not None:
            line = json.dumps({"step": record.step, "ids": record.ids.tolist()})
            with self.lock:
                self.ids.append(line)
        if time.monotonic() - self.shown > _SHOW_SECONDS:
            self.shown = time.monotonic()
            rate = record.num_samples / record.step_seconds
            self._show(f"step {record.step}: loss {record.loss:.4f}, {rate:,.0f} samples/s")
        if time.monotonic() - self.flushed > _FLUSH_SECONDS:
            self._flush_records()

    def worked(self, step: int, step_seconds: float, own: Own | None, data_seconds: float) -> None:
        """Note what a step took here; it is written with the next checkpoint, beside the steps."""
        values = {
            "step": step,
            "step_seconds": step_seconds,
            "busy_seconds": own and own.seconds,
            "data_seconds": data_seconds,
        }
        with self.lock:
            self.works.append(json.dumps(values))

    def evaluated(self, record: EvalRecord) -> None:
        """Note an evaluation."""
        self._write("evaluation", {**vars(record), "metrics": dict(record.metrics)})
        figures = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
        self._show(f"step {record.step}: {figures} ({record.num_samples} held-out samples)")

    def saving(self) -> None:
        """Write what is buffered, so that a commit never precedes its records.

        Raises ``Fenced`` where a later attempt has begun.
        """
        check_owner(self.run, self.attempt)
        self.flush()

    def stop_requested(self) -> bool:
        """Whether the caller wants to stop."""
        return self.stop()

    def leave_at_checkpoint(self) -> bool:
        """Nobody waits for the workers here."""
        return False

    def note(self, note: Note) -> None:
        """Note it, and show it."""
        self._write(note.kind, {"step": note.step, "text": note.text, **note.figures})
        self._show(note.text)

    def stuck(self, report: StuckReport) -> None:
        """Say where this worker hangs, leave the others a moment to do the same, and end.

        There is nobody to restart the group but ``torchrun``, which sees this process end with
        exit code 1, ends the others, stopped ones too, and starts them again as often as its
        ``--max-restarts`` says. Hanging for ever would be the alternative.
        """
        sys.stderr.write(
            f"worker {report.rank} (pid {report.pid}) has been at {report.what} for "
            f"{report.seconds:.0f} s, in {report.phase or 'its beginning'}:\n{report.stack}"
            "ends with exit code 1 (coordination.hang_timeout)\n"
        )
        sys.stderr.flush()
        time.sleep(_STUCK_GRACE_SECONDS)
        os._exit(1)

    def whereabouts_wanted(self) -> bool:
        """Nobody asks here."""
        return False

    def commit(self, manifest: CheckpointManifest) -> None:
        """Write the manifest, after everything that led to it; ``Fenced`` where a later attempt
        has begun."""
        commit(self.run, manifest)
        size = f"{manifest.size_bytes / 2**20:.1f} MiB in {manifest.seconds:.2f} s"
        self._write("checkpoint", {"step": manifest.step, "folder": manifest.folder})
        self._show(f"step {manifest.step}: checkpoint {manifest.folder} ({size})")
        self.flush()

    def flush(self) -> None:
        """Make all lines durable."""
        self._flush_records()
        with self.lock:
            self._append(f"work/{self._own_file()}", self.works)

    def _flush_records(self) -> None:
        self.flushed = time.monotonic()
        with self.lock:
            self._append("metrics.jsonl", self.metrics)
            if self.ids is not None:
                self._append(f"ids/{self._own_file()}", self.ids)

    def _own_file(self) -> str:
        return f"attempt-{self.attempt:04d}-rank-{self.rank:04d}.jsonl"

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        if self.rank == 0:
            line = json.dumps({"kind": kind, "attempt": self.attempt, **values})
            with self.lock:
                self.metrics.append(line)

    def _append(self, name: str, lines: list[str]) -> None:
        if lines:
            self.run.append(name, "".join(line + "\n" for line in lines).encode())
            lines.clear()

    def _show(self, line: str) -> None:
        if self.rank == 0:
            self.show(line)
