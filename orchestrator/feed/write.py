"""How do samples become a shard, and shards a store?

A shard is one Arrow IPC file named by its content, written aside and renamed. A store is
finished by its manifest, written last. This module does not know where samples come from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from orchestrator.errors import DamagedError, StorageError
from orchestrator.feed.buffer import SampleBuffer
from orchestrator.feed.columns import Column
from orchestrator.feed.manifest import (
    MANIFEST_FILE,
    ShardInfo,
    StoreManifest,
    Verify,
    read_manifest,
    verify_shards,
)
from orchestrator.storage import Storage
from orchestrator.storage.durable import is_temporary, temporary_name
from orchestrator.storage.failures import reason_of

BATCH_BYTES = 32 << 20
"""Bytes of samples gathered in memory before they are written as one record batch."""
SWEEP_GRACE_SECONDS = 3600.0

_logger = logging.getLogger(__name__)


class ShardWriter:
    """Writes the samples of many files into one shard, and can take a file's samples back.

    Memory: about ``batch_bytes``, however large a file is. A file's samples that were already
    written when it turned out to be bad are left out by copying the shard without them.
    """

    def __init__(self, storage: Storage, batch_bytes: int = BATCH_BYTES) -> None:
        self._storage = storage
        self._batch_bytes = batch_bytes
        self._buffer = SampleBuffer()
        self._file: _HashedFile | None = None
        self._rows_written: list[int] = []
        self._dropped: set[int] = set()
        self._mark = (0, 0)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The form of the samples kept so far; empty if there are none."""
        return self._buffer.columns

    def begin_file(self) -> None:
        """What is added from here on belongs to the next file."""
        if self._buffer.size_bytes >= self._batch_bytes:
            self._write(0, self._buffer.num_rows)
            self._buffer.clear()
        self._mark = (self._buffer.num_rows, len(self._rows_written))

    def add(self, sample: Mapping[str, Any]) -> None:
        """Add a sample of the current file. Raises ``TypeError`` naming a key that differs."""
        self._buffer.add(sample)
        rows_before = self._mark[0]
        own_bytes = (self._buffer.num_rows - rows_before) * self._buffer.row_bytes
        if own_bytes >= self._batch_bytes:
            self._spill(rows_before)

    def drop_file(self) -> None:
        """Take back every sample added since ``begin_file``."""
        rows, batches = self._mark
        self._buffer.truncate(rows)
        self._dropped.update(range(batches, len(self._rows_written)))
        self._mark = (self._buffer.num_rows, len(self._rows_written))
        if not self._buffer.num_rows and len(self._dropped) == len(self._rows_written):
            # Nothing good is left, so the bad file must not fix the form of the good ones.
            self.abort()
            self._buffer.reset()
            self._rows_written, self._dropped, self._mark = [], set(), (0, 0)

    def finish(self) -> ShardInfo | None:
        """Close the shard, name it by its content and make it durable; ``None`` if it is empty."""
        if self._buffer.num_rows:
            self._write(0, self._buffer.num_rows)
            self._buffer.clear()
        if self._file is None:
            return None
        self._file.close()
        if self._dropped:
            self._file = _without(self._storage, self._file, self._dropped)
        written = self._file
        num_rows = sum(rows for i, rows in enumerate(self._rows_written) if i not in self._dropped)
        name = f"shard-{written.sha256[:16]}.arrow"
        self._storage.move(written.name, name)
        self._file = None
        return ShardInfo(name, num_rows, written.size_bytes, written.sha256)

    def abort(self) -> None:
        """Delete what was written."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _spill(self, rows_before: int) -> None:
        # Batches never mix a file that may still turn out bad with the ones before it.
        if rows_before:
            self._write(0, rows_before)
        self._mark = (0, len(self._rows_written)) if rows_before else self._mark
        self._write(rows_before, self._buffer.num_rows)
        self._buffer.clear()

    def _write(self, start: int, stop: int) -> None:
        batch = self._buffer.batch(start, stop)
        if self._file is None:
            self._file = _HashedFile(self._storage, batch.schema)
        self._file.write(batch)
        self._rows_written.append(stop - start)


class _HashedFile:
    """An Arrow IPC file under a temporary name, hashed while it is written."""

    def __init__(self, storage: Storage, schema: pa.Schema) -> None:
        self.name = temporary_name("shard")
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._storage = storage
        self._out = storage.open_output(self.name)
        self._writer = ipc.new_file(pa.PythonFile(_Tee(self), mode="w"), schema)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_batch(batch)
        except (OSError, pa.ArrowException) as exc:
            raise StorageError(
                f"cannot write a shard in {self._storage.name}: {reason_of(exc)}"
            ) from exc

    def take_bytes(self, data: Any) -> int:
        self._out.write(data)
        self._digest.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    def close(self) -> None:
        try:
            self._writer.close()
            self._out.close()
        except (OSError, pa.ArrowException) as exc:
            raise StorageError(
                f"cannot write a shard in {self._storage.name}: {reason_of(exc)}"
            ) from exc

    def _failure(self, exc: Exception) -> StorageError:
        return StorageError(f"cannot write a shard in {self._storage.name}: {reason_of(exc)}")

    def discard(self) -> None:
        with suppress(OSError):  # a full disk fails here again; the file goes all the same
            self._out.close()
        if self._storage.exists(self.name):
            self._storage.delete(self.name)


class _Tee:
    """The part of Python's file protocol that Arrow writes through."""

    closed = False

    def __init__(self, target: _HashedFile) -> None:
        self._target = target

    def write(self, data: Any) -> int:
        return self._target.take_bytes(data)

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def _without(storage: Storage, written: _HashedFile, dropped: set[int]) -> _HashedFile:
    with storage.open_input(written.name) as source:
        reader = ipc.open_file(source)
        kept = _HashedFile(storage, reader.schema)
        try:
            for index in range(reader.num_record_batches):
                if index not in dropped:
                    kept.write(reader.get_batch(index))
            kept.close()
        except BaseException:
            kept.discard()
            raise
    storage.delete(written.name)
    return kept


def write_shard(storage: Storage, samples: Iterable[Mapping[str, Any]]) -> ShardInfo | None:
    """Write samples as one content-named shard into ``storage``; ``None`` if there are none.

    Raises ``TypeError`` for samples that cannot be stored or differ in form, ``StorageError``
    where bytes cannot be written; nothing is left behind then.
    """
    writer = ShardWriter(storage)
    try:
        for sample in samples:
            writer.add(sample)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def commit_store(storage: Storage, manifest: StoreManifest) -> StoreManifest:
    """Finish the store in ``storage``: check that its shards are there, then write the manifest.

    Returns the manifest that holds: where another driver finished a store of the same key
    meanwhile, that one is kept, since its readers may have opened it. Raises ``DamagedError``
    where a shard is missing or has another size than was written.
    """
    verify_shards(storage, manifest.shards)
    earlier = whole_manifest(storage, manifest.key)
    if earlier is not None:
        return earlier
    storage.write_atomic(MANIFEST_FILE, manifest.to_bytes())
    return manifest


def whole_manifest(storage: Storage, key: str, verify: Verify = "size") -> StoreManifest | None:
    """The manifest in ``storage`` if it has this key and its shards are there, else ``None``.

    A damaged store counts as none, and the damage is logged as a warning.
    """
    if not storage.exists(MANIFEST_FILE):
        return None
    try:
        manifest = read_manifest(storage)
        verify_shards(storage, manifest.shards, verify)
    except DamagedError as exc:
        _logger.warning("an existing sample store is not used: %s", exc)
        return None
    return manifest if manifest.key == key else None


def sweep_store(storage: Storage, grace_seconds: float = SWEEP_GRACE_SECONDS) -> tuple[str, ...]:
    """Delete shards and temporary files that the manifest does not name; returns their names.

    They are left by attempts that died. Files younger than ``grace_seconds`` stay, since
    another driver may be writing them; age is told by the storage's own clock. Raises
    ``DamagedError`` where there is no valid manifest to go by: nothing is deleted then.
    """
    manifest = read_manifest(storage)
    kept = {MANIFEST_FILE, *(shard.file for shard in manifest.shards)}
    youngest_ns = _now_ns(storage) - int(grace_seconds * 1e9)
    swept = [
        entry.path
        for entry in storage.list()
        if not entry.is_dir
        and entry.path not in kept
        and entry.mtime_ns <= youngest_ns
        and (is_temporary(entry.path) or entry.path.startswith("shard-"))
    ]
    for path in swept:
        storage.delete(path)
    return tuple(swept)


def _now_ns(storage: Storage) -> int:
    probe = temporary_name("clock")
    storage.write_atomic(probe, b"")
    entry = storage.stat(probe)
    storage.delete(probe)
    if entry is None:
        raise StorageError(f"{storage.name} lost a file that was just written: {probe}")
    return entry.mtime_ns
