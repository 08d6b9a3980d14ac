"""How fast is the storage of runs, as one of several workers that write at once sees it?"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress

from orchestrator.errors import StorageError
from orchestrator.planner.calibration.timings import DiskTimings
from orchestrator.storage import Storage

FILE_BYTES = 32 * 2**20
_TIMES = 3


def measure_disk(uri: str) -> DiskTimings:
    """Write files durably and read them back, past the cache of the system where it can be told
    to forget. What was written is removed. Raises ``StorageError``."""
    storage = Storage.open(uri)
    names = [f"_calibrate-{uuid.uuid4().hex}" for _ in range(_TIMES)]
    data = os.urandom(FILE_BYTES)
    try:
        begun = time.perf_counter()
        for name in names:
            storage.write_atomic(name, data)
        written = time.perf_counter() - begun
        for name in names:
            _forget(storage, name)
        begun = time.perf_counter()
        for name in names:
            storage.read_bytes(name)
        read = time.perf_counter() - begun
    finally:
        for name in names:
            with suppress(StorageError):
                storage.delete(name)
    whole = float(_TIMES * FILE_BYTES)
    return DiskTimings(whole / written, whole / read)


def _forget(storage: Storage, name: str) -> None:
    """Have the system drop its cached copy of a local file, where it knows how to."""
    if not storage.is_local or not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError), (storage.local_path() / name).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
