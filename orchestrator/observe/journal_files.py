"""Which files is a journal made of, in which order, and which of them may go?

``attempt-0003.jsonl`` is the first segment of attempt 3, ``attempt-0003-0002.jsonl`` its second;
``snapshot-000000012345-after-0003-0002.json`` is the state after event 12,345, the last one of
that segment, which it closes: whatever is appended next begins a new segment. Pure but for the
one listing; knows nothing of what is in the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.storage import Storage

FOLDER = "journal"
_SEGMENT = re.compile(FOLDER + r"/attempt-(\d{4,})(?:-(\d{4,}))?\.jsonl")
_SNAPSHOT = re.compile(FOLDER + r"/snapshot-(\d{12,})-after-(\d{4,})-(\d{4,})\.json")

Key = tuple[int, int]
"""Attempt and part of a segment: their order is the order of the journal."""


@dataclass(frozen=True)
class Segment:
    """A file of consecutive events of one attempt, as found or left: its bytes up to the last
    newline."""

    attempt: int
    path: str
    size_bytes: int
    part: int = 1

    @property
    def key(self) -> Key:
        """Its place in the journal."""
        return self.attempt, self.part


@dataclass(frozen=True)
class SnapshotFile:
    """A file that holds the state after ``num_events`` events, all those up to the end of the
    segment ``closes``."""

    num_events: int
    closes: Key
    path: str


@dataclass(frozen=True)
class Layout:
    """The journal's files at one moment, both in order."""

    segments: tuple[Segment, ...] = ()
    snapshots: tuple[SnapshotFile, ...] = ()

    @property
    def newest(self) -> Key:
        """The segment that was begun last, gone or not; ``(0, 0)`` in an empty journal."""
        keys = [segment.key for segment in self.segments[-1:]]
        return max([*keys, *(snapshot.closes for snapshot in self.snapshots)], default=(0, 0))

    @property
    def paths(self) -> frozenset[str]:
        """The names of all files."""
        found = [segment.path for segment in self.segments]
        return frozenset([*found, *(snapshot.path for snapshot in self.snapshots)])

    def segment(self, key: Key) -> Segment | None:
        """The segment of that place, if it is there."""
        return next((each for each in self.segments if each.key == key), None)

    def is_closed(self, key: Key) -> bool:
        """Whether nothing more may be appended to the segment."""
        return any(snapshot.closes == key for snapshot in self.snapshots)

    def after(self, key: Key) -> tuple[Segment, ...]:
        """The segments that follow that place."""
        return tuple(segment for segment in self.segments if segment.key > key)


@dataclass(frozen=True)
class Retention:
    """How often a snapshot is taken, and how much of the past is kept for people to read.

    A snapshot after ``snapshot_every`` events bounds what a replay reads. Events are removed only
    when ``keep_events`` newer ones are there, or the newer ones fill ``keep_segments`` files (a
    run of endless restarts): shorter runs keep their whole history.
    """

    snapshot_every: int = 5_000
    keep_events: int = 100_000
    keep_segments: int = 1_000


def list_layout(storage: Storage) -> Layout:
    """What lies in the journal's folder; an empty layout where there is none."""
    segments: list[Segment] = []
    snapshots: list[SnapshotFile] = []
    for entry in storage.list(FOLDER):
        if entry.is_dir:
            continue
        if match := _SEGMENT.fullmatch(entry.path):
            part = int(match[2] or 1)
            segments.append(Segment(int(match[1]), entry.path, entry.size_bytes, part))
        elif match := _SNAPSHOT.fullmatch(entry.path):
            key = int(match[2]), int(match[3])
            snapshots.append(SnapshotFile(int(match[1]), key, entry.path))
    return Layout(
        tuple(sorted(segments, key=lambda segment: segment.key)),
        tuple(sorted(snapshots, key=lambda snapshot: snapshot.num_events)),
    )


def segment_path(key: Key) -> str:
    """The name of a segment."""
    attempt, part = key
    return f"{FOLDER}/attempt-{attempt:04d}" + (f"-{part:04d}" if part > 1 else "") + ".jsonl"


def snapshot_path(num_events: int, closes: Key) -> str:
    """The name of the snapshot of the state after ``num_events`` events."""
    return f"{FOLDER}/snapshot-{num_events:012d}-after-{closes[0]:04d}-{closes[1]:04d}.json"


def base_candidates(layout: Layout, retention: Retention) -> tuple[SnapshotFile, ...]:
    """The snapshots before which all may go, best first; the newest is never among them, so that
    there is one more to fall back to, with the events after it."""
    if not layout.snapshots:
        return ()
    newest = layout.snapshots[-1]
    return tuple(
        snapshot
        for snapshot in reversed(layout.snapshots[:-1])
        if newest.num_events - snapshot.num_events >= retention.keep_events
        or len(layout.after(snapshot.closes)) >= retention.keep_segments
    )


def superseded_by(base: SnapshotFile, layout: Layout) -> tuple[str, ...]:
    """The files that ``base`` makes superfluous, in the order in which they may be removed one by
    one: whatever is left of them at any moment is the end of the past, with its base."""
    segments = {each.key: each.path for each in layout.segments if each.key <= base.closes}
    snapshots = {each.closes: each.path for each in layout.snapshots if each.closes < base.closes}
    return tuple(
        path
        for key in sorted({*segments, *snapshots})
        for path in (segments.get(key), snapshots.get(key))
        if path is not None
    )
