"""What happened, in an order nobody can change? The run's events on storage.

Segments of one attempt each, ``journal/attempt-0001.jsonl``; one line per event, durable before
the event counts. Every line carries its number in the run and a checksum, so that a torn tail,
a damaged line and a missing line are told apart:

- bytes after the last newline are a torn tail: the event was never confirmed to its sender;
  they are reported, and cut off before the next append;
- a whole line that does not match its checksum, or a gap in the numbers, is ``DamagedError``.

``compact`` writes the state beside the segments now and then, so that reading it does not take
longer the longer the run; a new segment begins behind it, and what is older than people look back
(``Retention``) is removed. It never rewrites a file, so who reads meanwhile sees one whole past.

A journal remembers what it has read and written. Where somebody else has written or compacted
since, or opened a later attempt, ``append`` raises ``Fenced``. It does not know what events mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from orchestrator.coordinator.decide import replay
from orchestrator.coordinator.events import Event, Opened
from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError, Fenced, StorageError
from orchestrator.observe.event_lines import encode_line
from orchestrator.observe.file_lock import exclusive
from orchestrator.observe.journal_end import Begun, End, check_unmoved, cut_line, cut_tail
from orchestrator.observe.journal_files import (
    FOLDER,
    Layout,
    Retention,
    Segment,
    base_candidates,
    list_layout,
    snapshot_path,
    superseded_by,
)
from orchestrator.observe.journal_reading import (
    Reading,
    Start,
    newest_start,
    oldest_start,
    read_snapshot,
)
from orchestrator.observe.journal_snapshot import encode_snapshot
from orchestrator.storage import Storage

__all__ = ["FOLDER", "Journal", "Retention", "Segment", "replay_state", "segments"]

LOCK_PATIENCE_SECONDS = 10.0
"""How long another process may keep the journal locked; an append takes milliseconds."""

_READ_ATTEMPTS = 5
_Folded = TypeVar("_Folded")


class Journal:
    """The events of one run; ``storage`` is the run's folder.

    One object is for one writer at a time (the actor serialises its calls). ``torn`` names the
    torn tails met by the last reading, ``remarks`` what else was passed over: snapshots that are
    damaged, and what writers left that were fenced already. ``compaction_failure`` says why the
    last compaction that was due did not come about; it is tried again later.
    """

    def __init__(self, storage: Storage, retention: Retention | None = None) -> None:
        self._storage = storage
        self._retention = retention or Retention()
        self._end: End | None = None  # None: not read yet
        self._begun: Begun | None = None
        self._num_events = 0
        self._compacted_at = 0  # the event of the last snapshot, or of the last try
        self._num_ignored: int | None = None
        self.torn: tuple[str, ...] = ()
        self.remarks: tuple[str, ...] = ()
        self.compaction_failure = ""

    @property
    def num_events(self) -> int:
        """Events read and appended so far, those before a snapshot included."""
        return self._num_events

    def replay(self) -> Iterator[Event]:
        """All events that are kept, in order, read anew. Raises ``DamagedError`` naming file and
        line. To make a state of them use ``fold``, which knows what came before."""
        layout = list_layout(self._storage)
        yield from self._read(layout, oldest_start(self._storage, layout))

    def fold(
        self, folding: Callable[[RunState, Iterator[Event]], _Folded], *, whole: bool = False
    ) -> _Folded:
        """``folding(state, events)`` of a state and the events that followed it: the fewest that
        there can be, or with ``whole`` all that are kept.

        Another process may write and compact meanwhile: where files were removed under the
        reading it begins anew, calling ``folding`` again. Raises ``DamagedError`` as ``replay``
        does, and where no snapshot is sound and the first events are gone.
        """
        for attempt in range(_READ_ATTEMPTS):
            layout = list_layout(self._storage)
            try:
                start = (oldest_start if whole else newest_start)(self._storage, layout)
                return folding(start.state, self._read(layout, start))
            except StorageError:
                last = attempt == _READ_ATTEMPTS - 1
                if last or list_layout(self._storage).paths == layout.paths:
                    raise
        raise AssertionError("the last reading returns or raises")

    def state(self) -> RunState:
        """The state of the run after all its events. Raises ``DamagedError`` as ``fold`` does."""
        state = self.fold(lambda before, events: replay(events, before))
        self._num_ignored = self._num_events - state.num_events
        return state

    def append(self, event: Event) -> None:
        """Make ``event`` durable as the next of the run.

        Raises ``Fenced`` when its attempt is not the newest, or somebody else has written
        since this journal read; ``StorageError`` when storage refuses (nothing is appended
        then, and what a failed write left is cut off before the next).
        """
        self._know()
        with self._exclusive():
            end = self._settled(event.attempt)
            target = self._target(event, end)
            line = encode_line(event, self._num_events + 1)
            self._begun = Begun(target, line)
            self._storage.append(target.path, line)
            self._begun = None
        self._end = replace(target, size_bytes=target.size_bytes + len(line))
        self._num_events += 1

    def compact(self, state: RunState) -> bool:
        """Write ``state`` down if that is due, and remove what is older than people look back;
        answers whether it was. ``state`` is the one after the last event of this journal.

        Call it after an append, as often as you like. Where storage refuses, the journal goes on
        as it was: ``compaction_failure`` says why. Raises ``Fenced`` as ``append`` does, and
        ``ValueError`` for a state of another event.
        """
        self._know()
        if self._num_events - self._compacted_at < self._retention.snapshot_every:
            return False
        self._check_age(state)
        try:
            with self._exclusive():
                self._write_snapshot(state, self._settled())
                self._remove_superseded()
        except StorageError as error:
            self.compaction_failure = str(error)
            # What was written stays valid; the next try comes soon, but not with each event.
            self._compacted_at += max(1, self._retention.snapshot_every // 10)
            return False
        self.compaction_failure = ""
        return True

    # ------------------------------------------------------------------ inside

    def _read(self, layout: Layout, start: Start) -> Iterator[Event]:
        self._end, self._begun, self._num_ignored = None, None, None
        reading = Reading(self._storage, layout, start)
        yield from reading.events()
        key = start.segments[-1].key if start.segments else layout.newest
        has_tail = reading.tail_bytes > 0
        self._end = End(key, reading.size_bytes, has_tail, layout.is_closed(key))
        self._num_events = reading.num_events
        self._compacted_at = max((each.num_events for each in layout.snapshots), default=0)
        self.torn = tuple(reading.torn)
        self.remarks = (*start.damaged, *reading.stale)

    def _know(self) -> None:
        if self._end is None:
            self.state()

    def _target(self, event: Event, end: End) -> End:
        """Where the event goes."""
        if event.attempt > end.key[0]:
            return End((event.attempt, 1))
        if isinstance(event, Opened) and (end.size_bytes > 0 or end.key[1] > 1):
            raise Fenced(f"attempt {event.attempt} was opened before")
        return End((end.key[0], end.key[1] + 1)) if end.is_closed else end

    def _settled(self, attempt: int | None = None) -> End:
        """The end of the journal, with nothing unfinished behind it.

        Raises ``Fenced`` where it is not as this object left it, or ``attempt`` is not the newest.
        """
        end, begun = self._end, self._begun
        assert end is not None
        layout = list_layout(self._storage)
        check_unmoved(layout, end, begun, attempt, self._storage.name)
        end = replace(end, is_closed=layout.is_closed(end.key))
        if begun is not None:
            cut_line(self._storage, begun)
        elif end.has_tail:
            cut_tail(self._storage, end)
        self._begun, self._end = None, replace(end, has_tail=False)
        return self._end

    def _check_age(self, state: RunState) -> None:
        """A snapshot of another event's state would drop or repeat events for ever after."""
        if self._num_ignored is None:
            return  # the events were read by themselves: how many were accepted is not known
        if state.num_events + self._num_ignored != self._num_events:
            raise ValueError(
                f"the state is the one after {state.num_events} accepted events, the journal "
                f"holds {self._num_events - self._num_ignored}"
            )

    def _write_snapshot(self, state: RunState, end: End) -> None:
        if not end.is_closed:
            path = snapshot_path(self._num_events, end.key)
            self._end = replace(end, is_closed=None)  # until the write has returned
            self._storage.write_atomic(path, encode_snapshot(state, self._num_events))
            self._end = replace(end, is_closed=True)
        self._compacted_at = self._num_events

    def _remove_superseded(self) -> None:
        """Once the newest snapshot and the one that all before it depends on were read back."""
        layout = list_layout(self._storage)
        if not base_candidates(layout, self._retention):
            return
        read_snapshot(self._storage, layout.snapshots[-1])
        for base in base_candidates(layout, self._retention):
            try:
                read_snapshot(self._storage, base)
            except DamagedError:
                continue
            for path in superseded_by(base, layout):
                self._storage.delete(path)
            return

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Two writers on one file system cannot look and write at the same time. On object
        stores the run's lease alone keeps them apart."""
        if not self._storage.is_local:
            yield
            return
        lock = self._storage.local_path(FOLDER) / ".lock"
        with exclusive(lock, LOCK_PATIENCE_SECONDS):
            yield


def segments(storage: Storage) -> tuple[Segment, ...]:
    """The journal's segments in their order; empty where there is no journal."""
    return list_layout(storage).segments


def replay_state(journal: Journal) -> RunState:
    """The state of the run after all its events. Raises ``DamagedError`` as ``fold`` does."""
    return journal.state()
