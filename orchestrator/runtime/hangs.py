"""What do the workers of a group say when one of them takes too long?

Collects for a short while what each says of where it is, as the coordinator's ears; whom to blame
is decided in ``coordinator.hang``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.coordinator.events import TrainingFailed
from orchestrator.coordinator.hang import Seat, Whereabouts, accuse
from orchestrator.parallel.channel import StuckReport
from orchestrator.runtime import frozen

GRACE_SECONDS = 3.0
"""How long the others have to say where they are: they are asked when they report, once a second,
and look every half second whether they are."""
_EXAMINING_SECONDS = 5.0
"""For a process on the worker's node to start, and look."""
_AGAIN_SECONDS = 5 * GRACE_SECONDS
"""A group that is still there after so long is given up anew: the first time came to nothing."""


class Hangs:
    """One run's collection; calls come from several threads, but under the run's lock."""

    def __init__(self) -> None:
        self._attempt, self._begun = 0, 0.0
        self._said: dict[int, Whereabouts] = {}
        self._seats: dict[int, Seat] = {}
        self._seated_attempt = 0
        self._stacks: dict[int, str] = {}

    def seat(self, attempt: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Remember where workers run, from the records that they begin with."""
        for record in records:
            if record.get("kind") != "worker":
                continue
            if attempt != self._seated_attempt:
                self._seats, self._seated_attempt = {}, attempt
            self._seats[int(record["rank"])] = Seat(int(record["pid"]), str(record["node"]))

    def asked(self, attempt: int) -> bool:
        """Whether the workers of ``attempt`` are to say where they are."""
        return attempt == self._attempt

    def hear(self, attempt: int, report: StuckReport, node: str, then: Callable[[], None]) -> None:
        """Note a report; after the first of an attempt the others get a moment, ``then`` is
        called."""
        now = time.monotonic()
        is_first = attempt != self._attempt or now - self._begun > _AGAIN_SECONDS
        if is_first:
            self._attempt, self._begun, self._said, self._stacks = attempt, now, {}, {}
        self._said[report.rank] = _whereabouts(report, node)
        if is_first:
            timer = threading.Timer(GRACE_SECONDS, then)
            timer.daemon = True
            timer.start()

    def examine(self, attempt: int, num_workers: int) -> None:
        """Look from outside at the first worker that has said nothing, for it gets the blame.

        Takes up to ``_EXAMINING_SECONDS``; not under the run's lock.
        """
        seats = self._seats_of(attempt)
        silent = next((rank for rank in range(num_workers) if rank not in self._said), None)
        if silent is not None and silent in seats:
            seat = seats[silent]
            self._stacks[silent] = frozen.ask(seat.node, seat.pid, _EXAMINING_SECONDS)

    def verdict(self, attempt: int, num_workers: int) -> TrainingFailed:
        """The loss of the group, with the worker to blame."""
        found = accuse(self._said, num_workers, self._seats_of(attempt), self._stacks)
        return TrainingFailed(
            attempt=attempt,
            at_seconds=time.time(),
            cause="hang",
            message=found.message,
            user_traceback=found.stack,
            rank=found.rank,
            pid=found.seat.pid if found.seat else None,
            node=found.seat.node if found.seat else "",
        )

    def _seats_of(self, attempt: int) -> Mapping[int, Seat]:
        return self._seats if self._seated_attempt == attempt else {}


def _whereabouts(report: StuckReport, node: str) -> Whereabouts:
    return Whereabouts(
        seat=Seat(report.pid, node),
        what=report.what,
        phase=report.phase,
        where=report.where,
        seconds=report.seconds,
        progress=report.progress,
        micro_batches=report.micro_batches,
        waiting=report.waiting,
        stack=report.stack,
    )
