"""How do a worker's figures reach the coordinator, and its orders the worker?

Not through ``ray.train.report``, which is a barrier that Ray Train's controller drains once a
poll: reporting each step that way made a 0.2 s step take 2 s. A thread sends what has
gathered a few times a second; the step never waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import Any

import ray

from orchestrator.errors import AxisError, DeadlineExceeded
from orchestrator.parallel.channel import EvalRecord, Note, Own, Started, StepRecord, StuckReport
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.runtime.handle import CoordinatorHandle
from orchestrator.runtime.memory import kill_count
from orchestrator.runtime.messages import Directive

_INTERVAL_SECONDS = 1.0
_COMMIT_TIMEOUT_SECONDS = 120.0
_MOST_WORKS = 256
_ECHO_SECONDS = 2.0
_ECHO = bytes(64 * 1024)
"""What goes to the coordinator and back to measure the link: small beside what steps exchange, and
long beside a call that carries nothing."""


class ActorChannel:
    """A worker's ``Channel`` to the coordinator. Rank 0 speaks for all, but for sample ids."""

    def __init__(
        self, handle: CoordinatorHandle, attempt: int, rank: int, log_samples: bool
    ) -> None:
        self._handle = handle
        self._attempt = attempt
        self._rank = rank
        self._log_samples = log_samples
        self._outbox: list[dict[str, Any]] = []
        # They say who is slow right now, and are no use later: what cannot be sent is dropped.
        self._works: deque[dict[str, Any]] = deque(maxlen=_MOST_WORKS)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._directive = Directive()
        self._echoed_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="axis-channel", daemon=True)
        self._thread.start()

    @cached_property
    def _node(self) -> str:
        """The id of the node that this process runs on."""
        return str(ray.get_runtime_context().get_node_id())

    def started(self, info: Started) -> None:
        """The model is built and the checkpoint loaded."""
        begun = {"kind": "worker", "rank": self._rank, "pid": os.getpid(), "node": self._node}
        count = kill_count()
        self._put({**begun, "kill_count": asdict(count)} if count else begun)
        if self._rank == 0:
            self._put({"kind": "started", **asdict(info)})

    def report(self, record: StepRecord) -> None:
        """A step is finished."""
        if self._rank == 0:
            self._put({"kind": "step", "at_seconds": time.time(), **record.to_dict()})
        if self._log_samples:
            ids = [int(number) for number in record.ids]
            self._put({"kind": "samples", "step": record.step, "rank": self._rank, "ids": ids})

    def worked(self, step: int, step_seconds: float, own: Own | None, data_seconds: float) -> None:
        """What a step took on this worker."""
        record = {
            "kind": "work",
            "step": step,
            "rank": self._rank,
            "step_seconds": step_seconds,
            "busy_seconds": own and own.seconds,
            "guessed_seconds": own.guessed_seconds if own else 0.0,
            "data_seconds": data_seconds,
        }
        with self._lock:
            self._works.append(record)

    def evaluated(self, record: EvalRecord) -> None:
        """An evaluation is finished."""
        if self._rank == 0:
            self._put(
                {
                    "kind": "evaluation",
                    "step": record.step,
                    "metrics": dict(record.metrics),
                    "num_samples": record.num_samples,
                    "seconds": record.seconds,
                }
            )

    def saving(self) -> None:
        """Have every worker's ids of the steps about to be committed outlive it."""
        if self._log_samples:
            self._flush(_COMMIT_TIMEOUT_SECONDS)

    def stop_requested(self) -> bool:
        """Whether the coordinator, when it was last reached, asked for a stop."""
        return self._directive.stop

    def leave_at_checkpoint(self) -> bool:
        """Whether the coordinator, when it was last reached, asked to leave with a checkpoint."""
        return self._directive.leave_at_checkpoint

    def note(self, note: Note) -> None:
        """Something that people should know."""
        if self._rank == 0:
            self._put({"kind": note.kind, "step": note.step, "text": note.text, **note.figures})

    def stuck(self, report: StuckReport) -> None:
        """Tell the coordinator where this worker is, past all that waits to be sent."""
        node = f"{socket.gethostname()} ({self._node[:12]})"
        with suppress(ray.exceptions.RayError, AxisError):
            self._handle.call("stuck", self._attempt, report, node)

    def whereabouts_wanted(self) -> bool:
        """Whether the coordinator, when it was last reached, asked where everybody is."""
        return self._directive.explain

    def commit(self, manifest: CheckpointManifest) -> None:
        """Have the coordinator write the manifest. Raises ``Fenced`` for a stale attempt."""
        self._flush(_COMMIT_TIMEOUT_SECONDS)
        self._handle.call("commit", manifest)

    def close(self) -> None:
        """Send what is left and stop the thread."""
        self._closing.set()
        self._thread.join(timeout=_COMMIT_TIMEOUT_SECONDS)
        self._flush(_COMMIT_TIMEOUT_SECONDS)

    def _put(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._outbox.append(record)

    def _send_all(self) -> None:
        while not self._closing.wait(_INTERVAL_SECONDS):
            try:
                self._send()
                self._measure_link()
            except (ray.exceptions.RayError, AxisError):
                # Kept in the outbox: a lost coordinator is back within seconds, and a full disk
                # is told by the next commit.
                continue

    def _measure_link(self) -> None:
        """How long a payload takes to the coordinator and back, once in a while."""
        began = time.monotonic()
        if began - self._echoed_at < _ECHO_SECONDS:
            return
        self._echoed_at = began
        self._handle.call("echo", _ECHO)
        record = {
            "kind": "round-trip",
            "node": self._node,
            "seconds": time.monotonic() - began,
            "num_bytes": 2 * len(_ECHO),
        }
        with self._lock:
            self._works.append(record)

    def _send(self) -> None:
        """Send the outbox as one call; what could not be sent stays, in order.

        A worker other than rank 0 asks as well: an order reaches every worker.
        """
        with self._sending:
            with self._lock:
                records, self._outbox = self._outbox, []
                works = list(self._works)
                self._works.clear()
            try:
                self._directive = self._handle.call(
                    "report", self._attempt, records + works, self._rank
                )
            except BaseException:
                with self._lock:
                    self._outbox = records + self._outbox
                raise

    def _flush(self, timeout_seconds: float) -> None:
        """Send all there is by now. Steps may go on meanwhile and add more, so it is one call
        that takes what there was, and not as many as it takes to find nothing left."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                with self._sending:  # what another thread has under way arrives, or is put back
                    if not self._outbox:
                        return
                self._send()
                return
            except ray.exceptions.RayError as error:
                if time.monotonic() >= deadline:
                    raise DeadlineExceeded(
                        f"{len(self._outbox)} records did not reach the coordinator "
                        f"within {timeout_seconds:g} s"
                    ) from error
                time.sleep(0.2)
