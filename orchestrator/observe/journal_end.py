"""Is the journal still as its writer left it? And what did a failed write leave behind?

Two writers of one journal are told apart by what they find: every append and every compaction
moves the end. Does not lock anything (``journal`` does), and does not know what events mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import Fenced, StorageError
from orchestrator.observe.journal_files import Key, Layout, segment_path
from orchestrator.storage import Storage


@dataclass(frozen=True)
class End:
    """Where the journal ended when it was last read or written: the bytes of the whole lines of
    its last segment, whether more follows them, and whether a snapshot closes the segment
    (``None``: one was being written when storage failed)."""

    key: Key = (0, 0)
    size_bytes: int = 0
    has_tail: bool = False
    is_closed: bool | None = False

    @property
    def path(self) -> str:
        """The name of its last segment."""
        return segment_path(self.key)


@dataclass(frozen=True)
class Begun:
    """A line that was being appended behind ``end`` when storage failed: all of it may be there,
    a part, or nothing."""

    end: End
    line: bytes


def check_unmoved(
    layout: Layout, end: End, begun: Begun | None, attempt: int | None, name: str
) -> None:
    """Raise ``Fenced`` where the journal called ``name`` does not end as it was left, or
    ``attempt`` is not its newest; ``StorageError`` where it has vanished.

    What was ``begun`` may be there or not; whether it is foreign is for ``cut_line`` to tell.
    """
    newest = layout.newest
    is_closed = layout.is_closed(newest)
    if newest == (0, 0) and end.key != (0, 0):
        raise StorageError(f"the journal of {name} has vanished")
    if begun is not None and newest == begun.end.key and not is_closed:
        return
    if attempt is not None and attempt < newest[0]:
        raise Fenced(f"attempt {attempt} is fenced: attempt {newest[0]} was opened")
    if newest[0] != end.key[0]:
        raise Fenced(f"another coordinator has opened attempt {newest[0]}")
    if newest != end.key or (end.is_closed is not None and is_closed != end.is_closed):
        raise Fenced(f"another coordinator has compacted the journal of {name}")
    theirs = layout.segment(newest)
    if theirs and not end.has_tail and theirs.size_bytes != end.size_bytes:
        raise _written_by_another(end)


def cut_tail(storage: Storage, end: End) -> None:
    """Remove the unfinished line behind ``end``. Raises ``Fenced`` where it was finished."""
    data = storage.read_bytes(end.path)
    if b"\n" in data[end.size_bytes :] or len(data) < end.size_bytes:
        raise _written_by_another(end)
    storage.write_atomic(end.path, data[: end.size_bytes])


def cut_line(storage: Storage, begun: Begun) -> None:
    """Remove what there is of a line that was begun, so that it never counts. Raises ``Fenced``
    where something else is there."""
    end = begun.end
    if not storage.exists(end.path):
        return
    data = storage.read_bytes(end.path)
    tail = data[end.size_bytes :]
    if len(data) < end.size_bytes or not begun.line.startswith(tail):
        raise _written_by_another(end)
    if end.size_bytes == 0:
        storage.delete(end.path)  # it was to begin a segment
    elif tail:
        storage.write_atomic(end.path, data[: end.size_bytes])


def _written_by_another(end: End) -> Fenced:
    return Fenced(f"another coordinator has written to {end.path}")
