"""What happened, in an order nobody can change? The run's events on storage.

One segment per attempt, ``journal/attempt-0001.jsonl``; one line per event, durable before the
event counts. Every line carries its number in the run and a checksum, so that a torn tail,
a damaged line and a missing line are told apart:

- bytes after the last newline are a torn tail: the event was never confirmed to its sender;
  they are reported, and cut off before the next append;
- a whole line that does not match its checksum, or a gap in the numbers, is ``DamagedError``.

A journal remembers what it has read and written. Where somebody else has written since, or
opened a later attempt, ``append`` raises ``Fenced``. It does not know what events mean.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.coordinator.decide import replay
from orchestrator.coordinator.events import Event, Opened, from_json, to_json
from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError, Fenced, StorageError
from orchestrator.storage import Storage

FOLDER = "journal"
_SEGMENT = re.compile(FOLDER + r"/attempt-(\d{4,})\.jsonl")
_LINE = re.compile(rb'\{"seq":(\d+),"crc32":"([0-9a-f]{8})","event":(.*)\}')


@dataclass(frozen=True)
class Segment:
    """The file of one attempt's events, as found or left: its bytes up to the last newline."""

    attempt: int
    path: str
    size_bytes: int


class Journal:
    """The events of one run; ``storage`` is the run's folder.

    One object is for one writer at a time (the actor serialises its calls). ``torn`` names the
    torn tails met by the last reading.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._newest: Segment | None = None
        self._num_events = 0
        self._known = False
        self._has_tail = False
        self.torn: tuple[str, ...] = ()

    @property
    def num_events(self) -> int:
        """Events read and appended so far."""
        return self._num_events

    def replay(self) -> Iterator[Event]:
        """All events in order, read anew. Raises ``DamagedError`` naming file and line."""
        self._known, self._has_tail, self._newest, self._num_events = False, False, None, 0
        self.torn = ()
        for segment in segments(self._storage):
            data = self._storage.read_bytes(segment.path)
            whole = data.rfind(b"\n") + 1
            self._note_tail(segment, len(data) - whole)
            self._newest = Segment(segment.attempt, segment.path, whole)
            lines = data[:whole].split(b"\n")[:-1]
            for number, line in enumerate(lines, start=1):
                event = _decode(line, self._num_events + 1, f"{segment.path}:{number}")
                if event.attempt != segment.attempt:
                    raise DamagedError(
                        f"{self._storage.name}/{segment.path}:{number}: an event of attempt "
                        f"{event.attempt} in the segment of attempt {segment.attempt}"
                    )
                self._num_events += 1
                yield event
        self._known = True

    def append(self, event: Event) -> None:
        """Make ``event`` durable as the next of the run.

        Raises ``Fenced`` when its attempt is not the newest, or somebody else has written
        since this journal read; ``StorageError`` when storage refuses (nothing is appended
        then, and what a failed write left is cut off before the next).
        """
        if not self._known:
            for _ in self.replay():
                pass
        with self._exclusive():
            target = self._target(event)
            if self._has_tail and self._newest is not None:
                self._cut(self._newest)
            line = _encode(event, self._num_events + 1)
            self._has_tail = True  # until the write has returned
            self._storage.append(target.path, line)
            self._has_tail = False
        self._newest = Segment(target.attempt, target.path, target.size_bytes + len(line))
        self._num_events += 1

    def _target(self, event: Event) -> Segment:
        """The segment the event goes to, if nobody else has been at the journal."""
        mine = self._newest
        theirs = next(reversed(segments(self._storage)), None)
        if theirs is None and mine is not None:
            raise StorageError(f"the journal of {self._storage.name} has vanished")
        newest = theirs.attempt if theirs else 0
        if event.attempt < newest:
            raise Fenced(f"attempt {event.attempt} is fenced: attempt {newest} was opened")
        if newest != (mine.attempt if mine else 0):
            raise Fenced(f"another coordinator has opened attempt {newest}")
        if theirs and mine and not self._has_tail and theirs.size_bytes != mine.size_bytes:
            raise Fenced(f"another coordinator has written to {theirs.path}")
        if mine is None or event.attempt > mine.attempt:
            return Segment(event.attempt, _path(event.attempt), 0)
        if isinstance(event, Opened) and mine.size_bytes > 0:
            raise Fenced(f"attempt {event.attempt} was opened before")
        return mine

    def _cut(self, segment: Segment) -> None:
        data = self._storage.read_bytes(segment.path)
        if b"\n" in data[segment.size_bytes :]:
            raise Fenced(f"another coordinator has written to {segment.path}")
        self._storage.write_atomic(segment.path, data[: segment.size_bytes])

    def _note_tail(self, segment: Segment, size_bytes: int) -> None:
        self._has_tail = size_bytes > 0
        if size_bytes:
            place = f"{self._storage.name}/{segment.path}"
            self.torn = (*self.torn, f"{place}: {size_bytes} bytes of an unfinished event")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Two writers on one file system cannot look and write at the same time. On object
        stores the run's lease alone keeps them apart."""
        if not self._storage.is_local:
            yield
            return
        path = self._storage.local_path(FOLDER) / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"cannot lock {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def segments(storage: Storage) -> tuple[Segment, ...]:
    """The journal's segments in order of attempt; empty where there is no journal."""
    found = []
    for entry in storage.list(FOLDER):
        match = _SEGMENT.fullmatch(entry.path)
        if match and not entry.is_dir:
            found.append(Segment(int(match[1]), entry.path, entry.size_bytes))
    return tuple(sorted(found, key=lambda segment: segment.attempt))


def replay_state(journal: Journal) -> RunState:
    """The state of the run after all its events. Raises ``DamagedError`` as ``replay`` does."""
    return replay(journal.replay())


def _path(attempt: int) -> str:
    return f"{FOLDER}/attempt-{attempt:04d}.jsonl"


def _encode(event: Event, seq: int) -> bytes:
    body = to_json(event)
    return b'{"seq":%d,"crc32":"%08x","event":%b}\n' % (seq, _checksum(seq, body), body)


def _decode(line: bytes, seq: int, place: str) -> Event:
    match = _LINE.fullmatch(line)
    if match is None:
        raise DamagedError(f"{place}: not a line of a journal: {line[:60]!r}")
    found, checksum, body = int(match[1]), int(match[2], 16), match[3]
    if _checksum(found, body) != checksum:
        raise DamagedError(f"{place}: the line is not what was written (crc32 does not match)")
    if found != seq:
        raise DamagedError(f"{place}: event {found} follows event {seq - 1}: events are missing")
    try:
        return from_json(body)
    except DamagedError as error:
        raise DamagedError(f"{place}: {error}") from None


def _checksum(seq: int, body: bytes) -> int:
    return zlib.crc32(body, seq & 0xFFFFFFFF)
