"""Where is this worker, since when, and is that too long?

The loop says what it enters; a thread looks at the clock. Past the deadline it sends the phase and
the Python stack of the training thread through the channel, which knows what follows: a worker
that hangs cannot say so itself, and its peers only wait for it. What is not a step (evaluating,
writing a checkpoint) has the same deadline, counted for itself. The first step, which pays for
compiling and warming up, has ``first_seconds`` instead.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import torch

from orchestrator.parallel.channel import Channel, StuckReport

_LONGEST_POLL_SECONDS = 0.5
_POLLS = 10
_AGAIN_SECONDS = 30.0
"""Whoever was told may have been lost before it did anything about it."""
_SHOWN_FRAMES = 30
_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parents[1])
_LIBRARY = str(Path(os.__file__).parent)
_EXCHANGES = (str(Path(_TORCH, "distributed")), str(Path(_TORCH, "nn", "parallel")))
"""Where torch's code lies that waits for other workers; DDP's is in the second."""
_WAITING = frozenset({"_engine_run_backward", "_arrive"})


@dataclass(frozen=True, slots=True)
class _Place:
    """``progress`` counts phases: all workers go through the same ones, in the same order."""

    progress: int = 0
    what: str = ""
    phase: str = ""
    since: float = 0.0
    counted: Callable[[], int] | None = None


class Watchdog:
    """Watches the thread that makes it, until it is closed.

    ``timeout_seconds`` bounds a step, an evaluation and the writing of a checkpoint, each.
    """

    def __init__(
        self, rank: int, channel: Channel, timeout_seconds: float, first_seconds: float
    ) -> None:
        self._rank, self._channel = rank, channel
        self._seconds, self._first_seconds = timeout_seconds, first_seconds
        self._thread_id = threading.get_ident()
        self._place = _Place()
        self._warm = False
        self._told: dict[str, float] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="axis-watchdog", daemon=True)

    def begin(self, what: str) -> None:
        """Something with a deadline of its own begins: ``step 12``."""
        self._place = _Place(self._place.progress + 1, what, "", time.monotonic())

    def enter(self, phase: str, counted: Callable[[], int] | None = None) -> None:
        """A phase of it; ``counted`` says how many micro-batches are through."""
        was = self._place
        self._place = _Place(was.progress + 1, was.what, phase, was.since, counted)

    def rest(self) -> None:
        """It is over; nothing has a deadline until the next ``begin``."""
        self._warm = True
        self._place = _Place(self._place.progress + 1)

    def report(self) -> StuckReport:
        """Where the watched thread is right now."""
        place = self._place
        frame = sys._current_frames().get(self._thread_id)
        return StuckReport(
            rank=self._rank,
            pid=os.getpid(),
            what=place.what,
            phase=place.phase,
            where=_where(frame),
            seconds=time.monotonic() - place.since if place.what else 0.0,
            progress=place.progress,
            micro_batches=place.counted() if place.counted else 0,
            waiting=is_waiting(frame),
            stack=_stack(frame),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop watching; a report under way is not waited for."""
        self._closing.set()

    def _watch(self) -> None:
        shortest = min(self._seconds, self._first_seconds)
        while not self._closing.wait(min(_LONGEST_POLL_SECONDS, shortest / _POLLS)):
            key, now = self._due(), time.monotonic()
            if key and now - self._told.get(key, -math.inf) > _AGAIN_SECONDS:
                self._told[key] = now
                self._channel.stuck(self.report())

    def _due(self) -> str:
        """What is to be told now, if anything: what takes too long, or that somebody asks."""
        place = self._place
        limit = self._seconds if self._warm else self._first_seconds
        if place.what and time.monotonic() - place.since > limit:
            return place.what
        return "asked" if self._channel.whereabouts_wanted() else ""


def is_waiting(frame: FrameType | None) -> bool:
    """Whether a stack ends in waiting for other workers rather than in work of its own.

    Looks at the innermost frames of torch, of this package and of the standard library: one of
    ``torch.distributed`` or of DDP among them, or a backward pass, which waits for gradients to be
    sent.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_EXCHANGES) or code.co_name in _WAITING:
            return True
        if not _is_known(code.co_filename):
            return False
        frame = frame.f_back
    return False


def _is_known(file: str) -> bool:
    library = file.startswith(_LIBRARY) and "site-packages" not in file
    return library or file.startswith((_TORCH, _OWN))


def _where(frame: FrameType | None) -> str:
    """The innermost line that is neither torch's, ours nor the standard library's; else the
    innermost of all."""
    inner = frame
    while inner is not None and _is_known(inner.f_code.co_filename):
        inner = inner.f_back
    # Below all is what starts threads and processes, which says nothing.
    chosen = inner if inner is not None and not _is_outer(inner) else frame
    if chosen is None:
        return "nowhere"
    name = chosen.f_code.co_name
    return f"at {chosen.f_code.co_filename}:{chosen.f_lineno} in {name}"


def _is_outer(frame: FrameType) -> bool:
    """Whether a frame lies outside of the loop of this package."""
    below = frame.f_back
    while below is not None:
        if below.f_code.co_filename.startswith(_OWN):
            return False
        below = below.f_back
    return True


def _stack(frame: FrameType | None) -> str:
    """The frames as a traceback has them, innermost last."""
    if frame is None:
        return ""
    return "".join(traceback.format_stack(frame, limit=None)[-_SHOWN_FRAMES:])
