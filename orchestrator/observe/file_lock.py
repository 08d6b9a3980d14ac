"""Who may change these files now? A locked file that a frozen process cannot keep for ever.

The kernel unlocks a file the moment its holder dies, however it dies. A holder that is frozen
keeps it, so every wait has an end: a lock that the same holder has kept for the whole patience is
put aside. What such a holder does when it wakes up must be told apart by those who read it. For
file systems of one machine and those that lock for several.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import StorageError

_POLL_SECONDS = 0.01
_TOKEN_BYTES = 16


@contextmanager
def exclusive(path: Path, patience_seconds: float, remove: bool = False) -> Iterator[None]:
    """Hold ``path`` locked inside the block; it is created where it is missing, and with
    ``remove`` it is gone when nobody waits for it any more.

    Waits while others hold it, one after the other, and no longer than ``patience_seconds`` for
    any of them. Raises ``StorageError`` where files cannot be created or locked.
    """
    descriptor = _held(path, patience_seconds)
    try:
        yield
    finally:
        try:
            if remove and is_at(descriptor, path):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _held(path: Path, patience_seconds: float) -> int:
    seen, since = b"", time.monotonic()
    while True:
        descriptor = open_file(path)
        kept = False
        try:
            if try_lock(descriptor, fcntl.LOCK_EX):
                if is_at(descriptor, path):
                    os.pwrite(descriptor, secrets.token_bytes(_TOKEN_BYTES), 0)
                    kept = True
                    return descriptor
                continue  # it was put aside while being opened
            token = os.pread(descriptor, _TOKEN_BYTES, 0)
            if token != seen:
                seen, since = token, time.monotonic()
            elif time.monotonic() - since >= patience_seconds and is_at(descriptor, path):
                path.unlink(missing_ok=True)
                continue
        except OSError as error:
            raise StorageError(f"cannot lock {path}: {error.strerror}") from error
        finally:
            if not kept:
                os.close(descriptor)
        time.sleep(_POLL_SECONDS)


def open_file(path: Path) -> int:
    """A descriptor to read and write ``path``, which is created where it is missing, as are the
    folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from error


def try_lock(descriptor: int, how: int) -> bool:
    """Lock an open file for all (``LOCK_SH``) or for one (``LOCK_EX``), without waiting."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(f"this file system cannot lock files: {error.strerror}") from error
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``: it may have been replaced, or its
    folder moved."""
    try:
        there, mine = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
