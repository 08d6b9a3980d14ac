"""Where does a reading of the journal begin, and which events follow?

Begins with the newest snapshot that can be read, or with the oldest for those who want the whole
past. Reads while another process writes: files are only ever added to, added, or removed from the
beginning, so what is seen is the past up to some moment. Does not know who may write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.coordinator.events import Event
from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError
from orchestrator.observe.event_lines import Lines, claimed_number, decode_line
from orchestrator.observe.journal_files import Layout, Segment, SnapshotFile
from orchestrator.observe.journal_snapshot import NewerSnapshot, decode_snapshot
from orchestrator.storage import Storage

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Start:
    """The state after ``num_events`` events, and the segments that hold those after them.
    ``damaged`` tells of the snapshots that were passed over."""

    state: RunState
    num_events: int
    segments: tuple[Segment, ...]
    damaged: tuple[str, ...] = ()


def newest_start(storage: Storage, layout: Layout) -> Start:
    """Where the fewest events are to be read: after the newest snapshot that is sound, or at the
    first event.

    Raises ``DamagedError`` naming the snapshots when none of them is sound and the first events
    are gone, ``NewerSnapshot`` for one of a newer version.
    """
    damaged: list[str] = []
    for snapshot in reversed(layout.snapshots):
        try:
            state = read_snapshot(storage, snapshot)
        except NewerSnapshot:
            raise
        except DamagedError as error:
            damaged.append(str(error))
            continue
        following = layout.after(snapshot.closes)
        return Start(state, snapshot.num_events, following, tuple(damaged))
    first = _first_number(storage, layout.segments)
    if damaged and first != 1:
        rest = f"events from {first} on are there" if first else "no event is there"
        raise DamagedError(f"{'; '.join(damaged)}; the events before it are gone ({rest})")
    return Start(RunState(), 0, layout.segments, tuple(damaged))


def oldest_start(storage: Storage, layout: Layout) -> Start:
    """Where the most events are to be read: at the first event, or after the oldest snapshot when
    the events before it were removed. Raises as ``newest_start`` does."""
    if not layout.snapshots or _first_number(storage, layout.segments) == 1:
        return Start(RunState(), 0, layout.segments)
    for snapshot in layout.snapshots:
        try:
            state = read_snapshot(storage, snapshot)
        except NewerSnapshot:
            raise
        except DamagedError:
            continue
        return Start(state, snapshot.num_events, layout.after(snapshot.closes))
    return newest_start(storage, layout)


def read_snapshot(storage: Storage, snapshot: SnapshotFile) -> RunState:
    """The state in a snapshot. Raises ``DamagedError`` naming the file, and the reason."""
    try:
        return decode_snapshot(storage.read_bytes(snapshot.path), snapshot.num_events)
    except DamagedError as error:
        raise type(error)(f"{storage.name}/{snapshot.path}: {error}") from None


@dataclass
class Reading:
    """The events from a start on, read once.

    When all are read, ``num_events`` is the number of the last one, ``size_bytes`` the size of
    the last segment's whole lines and ``tail_bytes`` what follows them. ``torn`` names the tails
    of events that were never finished, ``stale`` the lines of writers that were fenced already.
    """

    storage: Storage
    layout: Layout
    start: Start
    num_events: int = 0
    size_bytes: int = 0
    tail_bytes: int = 0
    torn: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def events(self) -> Iterator[Event]:
        """The events in order. Raises ``DamagedError`` naming file and line."""
        self.num_events = self.start.num_events
        for segment in self.start.segments:
            yield from self._segment(segment)
        if not self.start.segments:  # all of them are folded into the snapshot
            closed = self.layout.segment(self.layout.newest)
            self.size_bytes = closed.size_bytes if closed else 0

    def _segment(self, segment: Segment) -> Iterator[Event]:
        place = f"{self.storage.name}/{segment.path}"
        end = self._end_of(segment)
        lines = Lines(self.storage.read_blocks(segment.path))
        number = num_stale = 0
        for line in lines:
            number += 1
            if self.num_events == end:
                num_stale += 1
                continue
            try:
                seq, event = decode_line(line)
            except DamagedError as error:
                raise DamagedError(f"{place}:{number}: {error}") from None
            if seq <= self.num_events:
                num_stale += 1
                continue
            if seq != self.num_events + 1:
                raise DamagedError(
                    f"{place}:{number}: event {seq} follows event {self.num_events}: "
                    "events are missing"
                )
            if event.attempt != segment.attempt:
                raise DamagedError(
                    f"{place}:{number}: an event of attempt {event.attempt} in the segment of "
                    f"attempt {segment.attempt}"
                )
            self.num_events = seq
            yield event
        self._close(place, lines, num_stale)

    def _end_of(self, segment: Segment) -> int | None:
        """The last event of the segment that counts, where that is known. Whoever began the next
        segment, or took a snapshot, had read so far; a writer that was frozen in the middle of an
        append and fenced meanwhile may have added a line afterwards."""
        closing = (each for each in self.layout.snapshots if each.closes == segment.key)
        snapshot = next(closing, None)
        if snapshot is not None:
            return snapshot.num_events
        first = _first_number(self.storage, self.layout.after(segment.key))
        return first - 1 if first else None

    def _close(self, place: str, lines: Lines, num_stale: int) -> None:
        self.size_bytes, self.tail_bytes = lines.whole_bytes, lines.tail_bytes
        if lines.tail_bytes:
            self.torn.append(f"{place}: {lines.tail_bytes} bytes of an unfinished event")
        if num_stale:
            self.stale.append(f"{place}: {num_stale} lines of a writer that was fenced already")


def _first_number(storage: Storage, segments: tuple[Segment, ...]) -> int | None:
    """The number that the first of these segments begins with, as it claims; ``None`` where none
    of them holds an event."""
    for segment in segments:
        start = next(storage.read_blocks(segment.path, _HEAD_BYTES), b"")
        number = claimed_number(start)
        if number is not None:
            return number
        if b"\n" in start:
            return None  # damaged; reading it says how
    return None
