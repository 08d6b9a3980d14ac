"""How is a run held on a file system? By a locked file, and a counter in it that keeps moving.

The kernel unlocks the file the moment its holder dies, so a dead holder is followed at once. One
that is frozen keeps the lock for ever: a taker watches the counter for a whole period, and where
it does not move puts a file of its own in place. The old holder, should it wake up, finds that
its file is no longer the one at the path. Needs a file system of this machine, or one that locks
for several.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.observe.file_lock import exclusive, is_at, open_file, try_lock
from orchestrator.observe.lease_mark import UNREADABLE, Mark, decode_mark
from orchestrator.storage.durable import sync_path, temporary_name

_RENEWALS_PER_PERIOD = 10
_POLLS_PER_PERIOD = 40
_GUARD_PATIENCE_SECONDS = 5.0
_LONGEST_MARK_BYTES = 65536
_READS = 5
_READ_PAUSE_SECONDS = 0.01


class LockedFile:
    """A lease that is held by a lock and by renewing it; use ``acquire``."""

    def __init__(self, descriptor: int, path: Path, mark: Mark) -> None:
        self._descriptor = descriptor
        self._path = path
        self._mark = mark
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="axis-lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls, path: Path, tag: Mapping[str, Any], period_seconds: float
    ) -> tuple[LockedFile | None, Mapping[str, Any]]:
        """The lease, or ``None`` with the tag of whoever holds it.

        At once where nobody holds it, and as soon as a holder moves; after the longer of
        ``period_seconds`` and the period that the holder promised where one does not.
        """
        mark = Mark(secrets.token_hex(8), 0, period_seconds, tag)
        first, deadline = None, time.monotonic() + period_seconds
        while True:
            with _guarded(path):
                descriptor, there = _take(path, mark)
                frozen = first is not None and not there.has_moved(first)
                if descriptor is None and frozen and time.monotonic() >= deadline:
                    descriptor = _displace(path, mark)
            if descriptor is not None:
                return cls(descriptor, path, mark), tag
            if first is None:
                first = there
                deadline = time.monotonic() + max(period_seconds, first.period_seconds)
            elif not frozen:
                return None, there.tag
            time.sleep(period_seconds / _POLLS_PER_PERIOD)

    @property
    def lost(self) -> bool:
        """Whether another file is at the path by now, or none."""
        if self._done.is_set():
            return False
        try:
            return not is_at(self._descriptor, self._path)
        except OSError:
            return False  # nobody can look: whoever took over has a later attempt

    def release(self) -> None:
        """Let go; doing it twice does nothing."""
        if self._done.is_set():
            return
        self._done.set()
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._thread.join(timeout=self._mark.period_seconds)
        if not self._thread.is_alive():  # else a write is under way on a disk that hangs
            os.close(self._descriptor)

    def _renew(self) -> None:
        while not self._done.wait(self._mark.period_seconds / _RENEWALS_PER_PERIOD):
            if self.lost:
                return
            self._mark = self._mark.raised()
            try:
                _write(self._descriptor, self._mark)
            except OSError:
                continue  # where this lasts, another may take over, which ``lost`` finds


def watch_file(path: Path, period_seconds: float) -> Mapping[str, Any] | None:
    """The tag of whoever holds the lease at ``path``; ``None`` when nobody does.

    Watches for the longer of ``period_seconds`` and the period the holder promised, and returns
    as soon as the mark moves; a holder that does not move holds nothing. With 0 the lock is
    believed without watching.
    """
    first = _seen(path)
    if first is None or period_seconds == 0:
        return first.tag if first else None
    deadline = time.monotonic() + max(period_seconds, first.period_seconds)
    while time.monotonic() < deadline:
        time.sleep(period_seconds / _POLLS_PER_PERIOD)
        there = _seen(path)
        if there is None or there.has_moved(first):
            return there.tag if there else None
    return None


def _seen(path: Path) -> Mark | None:
    """The mark in a file that is locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from error
    try:
        return None if try_lock(descriptor, fcntl.LOCK_SH) else _read(descriptor)
    finally:
        os.close(descriptor)


def _guarded(path: Path) -> Any:
    """Takers come one after the other; none looks while another puts its file in place."""
    guard = path.with_name(f".{path.name}.lock")
    return exclusive(guard, _GUARD_PATIENCE_SECONDS, remove=True)


def _take(path: Path, mark: Mark) -> tuple[int | None, Mark]:
    """The file at ``path``, locked and marked, or ``None`` with the mark of its holder."""
    descriptor = open_file(path)
    taken = False
    try:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            return None, _read(descriptor)
        if not is_at(descriptor, path):
            return None, UNREADABLE  # its folder was moved this moment
        os.ftruncate(descriptor, 0)
        _write(descriptor, mark)
        taken = True
        return descriptor, mark
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if not taken:
            os.close(descriptor)


def _displace(path: Path, mark: Mark) -> int:
    """A new file at ``path``, locked and marked before anybody can see it."""
    aside = path.with_name(temporary_name(path.name))
    descriptor = open_file(aside)
    placed = False
    try:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            raise StorageError(f"cannot lock {aside}, which nobody else knows")
        _write(descriptor, mark)
        aside.replace(path)
        sync_path(path.parent)
        placed = True
        return descriptor
    except OSError as error:
        raise StorageError(f"cannot replace {path}: {error.strerror}") from error
    finally:
        if not placed:
            aside.unlink(missing_ok=True)
            os.close(descriptor)


def _write(descriptor: int, mark: Mark) -> None:
    """Synced, so that takers on other machines see it too."""
    os.pwrite(descriptor, mark.encode(), 0)
    os.fdatasync(descriptor)


def _read(descriptor: int) -> Mark:
    """The mark; for an instant it may be half written."""
    for _ in range(_READS):
        try:
            return decode_mark(os.pread(descriptor, _LONGEST_MARK_BYTES, 0))
        except (ValueError, KeyError, TypeError):
            time.sleep(_READ_PAUSE_SECONDS)
    return UNREADABLE
