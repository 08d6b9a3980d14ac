"""Who may carry this run out? One driver at a time, and a dead one never stands in the way.

On a file system the lease is a locked file: the kernel unlocks it the moment its holder dies,
however it dies. On object stores it is a file whose counter the holder keeps raising; a taker
watches it for a whole lease period and takes over only what did not move. Clocks are never
compared: only "has it changed while I was looking".

Does not fence what an earlier holder still tries to do: attempt numbers do (``journal``).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from orchestrator.errors import Fenced, RunHeld, StorageError
from orchestrator.observe.counter_lease import CounterLease, watch
from orchestrator.observe.holder import Holder
from orchestrator.observe.stop_request import clear_stop, request_stop, stop_requested
from orchestrator.storage import Storage

__all__ = ["Holder", "RunLease", "clear_stop", "peek", "request_stop", "stop_requested"]

LEASE_FILE = "lease.json"
LEASE_PERIOD_SECONDS = 10.0
_LOCK_PATIENCE_SECONDS = 1.0


class Hold(Protocol):
    """Something that is held until it is let go, or lost."""

    @property
    def lost(self) -> bool:
        """Whether somebody else may hold it by now."""

    def release(self) -> None:
        """Let go; doing it twice does nothing."""


class RunLease:
    """The right to carry a run out; a context manager.

    ``check()`` belongs into the driver's loop: it raises ``Fenced`` once the lease is lost.
    """

    def __init__(self, hold: Hold, holder: Holder, name: str) -> None:
        self._hold = hold
        self.holder = holder
        self.name = name

    @classmethod
    def acquire(
        cls,
        storage: Storage,
        name: str,
        holder: Holder | None = None,
        period_seconds: float = LEASE_PERIOD_SECONDS,
    ) -> RunLease:
        """Take the lease of the run whose folder is ``storage``.

        Returns at once on a file system; on object stores after up to one period when an
        earlier holder left without letting go. Raises ``RunHeld`` saying who holds it.
        """
        mine = holder or Holder.here()
        if storage.is_local:
            return cls(_LockedFile.acquire(storage, name, mine), mine, name)
        hold, other = CounterLease.acquire(storage, LEASE_FILE, asdict(mine), period_seconds)
        if hold is None:
            raise RunHeld(_held(storage, name, _holder(other)))
        return cls(hold, mine, name)

    @property
    def lost(self) -> bool:
        """Whether somebody else may carry the run out by now."""
        return self._hold.lost

    def check(self) -> None:
        """Raise ``Fenced`` if the lease is lost."""
        if self.lost:
            raise Fenced(f"the lease of {self.name} was taken over by somebody else")

    def release(self) -> None:
        """Let go; doing it twice does nothing."""
        self._hold.release()

    def __enter__(self) -> RunLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def peek(storage: Storage, period_seconds: float = 0.0) -> Holder | None:
    """Who holds the run now, without taking it; ``None`` when nobody does.

    On object stores a holder that died without a word looks alive unless it is watched for
    ``period_seconds``; 0 believes the file.
    """
    if not storage.exists(LEASE_FILE):
        return None
    if storage.is_local:
        return _LockedFile.holder(storage)
    tag = watch(storage, LEASE_FILE, period_seconds)
    return _holder(tag) if tag is not None else None


class _LockedFile:
    """A file with an exclusive ``flock``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, storage: Storage, name: str, holder: Holder) -> _LockedFile:
        path = storage.local_path(LEASE_FILE)
        deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:  # a peeking process holds a shared lock for an instant
            descriptor = _open(path)
            try:
                if _lock(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path):
                    _write(descriptor, holder)
                    kept, descriptor = descriptor, -1
                    return cls(kept)
                other = _holder(_parse(_read(descriptor)))
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            if time.monotonic() >= deadline:
                raise RunHeld(_held(storage, name, other))
            time.sleep(0.05)

    @staticmethod
    def holder(storage: Storage) -> Holder | None:
        path = storage.local_path(LEASE_FILE)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot open {path}: {error.strerror}") from error
        try:
            if _lock(descriptor, fcntl.LOCK_SH):
                return None
            return _holder(_parse(_read(descriptor)))
        finally:
            os.close(descriptor)

    @property
    def lost(self) -> bool:
        return False  # the kernel takes it from the dead alone

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from error


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(f"this file system cannot lock files: {error.strerror}") from error
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``: the folder may have been moved."""
    try:
        there, mine = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _write(descriptor: int, holder: Holder) -> None:
    data = json.dumps(asdict(holder)).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
    os.fsync(descriptor)


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, 65536, 0)


def _parse(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _holder(tag: Mapping[str, Any]) -> Holder:
    return Holder(
        host=str(tag.get("host", "an unknown host")),
        pid=int(tag.get("pid", 0)),
        user=str(tag.get("user", "somebody")),
        since_seconds=float(tag.get("since_seconds", 0.0)),
        command=str(tag.get("command", "")),
    )


def _held(storage: Storage, name: str, holder: Holder) -> str:
    return f"the run {name} is held by {holder.render()}: `axis stop {storage.name}` ends it"
