"""How are samples read? By id, any selection at once, straight from mapped memory.

Knows shards and their manifest; does not know in which order samples are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import ipc

from orchestrator.errors import DamagedError
from orchestrator.feed.cache import ShardCache
from orchestrator.feed.columns import Column, arrow_schema, to_numpy
from orchestrator.feed.keys import store_folder
from orchestrator.feed.manifest import (
    ShardInfo,
    StoreManifest,
    Verify,
    read_manifest,
    verify_shards,
)
from orchestrator.feed.write import whole_manifest
from orchestrator.storage import Storage

_Array = np.ndarray[Any, np.dtype[Any]]
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], _Array]
"""Makes an uninitialised array of a shape and dtype; ``numpy.empty``, or one in pinned memory."""


class SampleStore:
    """A finished sample store, open for reading. Safe to use from several threads.

    Local shards are mapped into memory; remote ones are fetched into a ``ShardCache`` first.
    """

    def __init__(self, manifest: StoreManifest, maps: list[pa.MemoryMappedFile], name: str) -> None:
        self.manifest = manifest
        self.name = name
        batches = [
            batch
            for shard, mapped in zip(manifest.shards, maps, strict=True)
            for batch in _read_batches(manifest.columns, shard, mapped, f"{name}/{shard.file}")
        ]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)], dtype=np.int64)
        # Small integers sort in linear time.
        self._source_dtype = np.min_scalar_type(len(batches))
        self._views = {
            column.name: [to_numpy(column, batch.column(column.name)) for batch in batches]
            for column in manifest.columns
        }

    @classmethod
    def open(
        cls, storage: Storage, verify: Verify = "size", cache: ShardCache | None = None
    ) -> SampleStore:
        """Open the store in the folder ``storage``.

        ``verify="sha256"`` reads all bytes once and compares checksums; ``"size"`` compares
        sizes. Raises ``DamagedError`` where the store is unfinished or not what was written.
        ``cache`` says where shards of remote storage go.
        """
        manifest = read_manifest(storage)
        verify_shards(storage, manifest.shards, verify)
        if not storage.is_local:
            maps = (cache or ShardCache()).map_shards(storage, manifest.shards)
        else:
            maps = [_map(storage, shard) for shard in manifest.shards]
        return cls(manifest, maps, storage.name)

    @property
    def num_samples(self) -> int:
        """Samples in the store; ids go from 0 to one less."""
        return self.manifest.num_samples

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of every sample."""
        return self.manifest.columns

    def take(self, ids: npt.NDArray[Any], allocate: Allocate = np.empty) -> dict[str, _Array]:
        """Samples by id, in the order asked for: each column as ``[len(ids), *shape]``.

        The arrays are new, contiguous and writable, made by ``allocate``. Raises
        ``IndexError`` for an id outside of the store.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= self.num_samples):
            wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise IndexError(
                f"there is no sample {wrong} among the {self.num_samples} of {self.name}"
            )
        taken = {c.name: allocate((len(ids), *c.shape), np.dtype(c.dtype)) for c in self.columns}
        if ids.size == 0:
            return taken
        if len(self._starts) == 2:
            for name, out in taken.items():
                # mode="clip" writes straight into out; ids were checked above.
                np.take(self._views[name][0], ids, axis=0, out=out, mode="clip")
            return taken
        self._take_across(ids, taken)
        return taken

    def _take_across(self, ids: npt.NDArray[np.int64], taken: dict[str, _Array]) -> None:
        # Gather batch by batch into contiguous rows, then bring the rows into the order asked
        # for: two copies of each row, but few numpy calls.
        sources = np.searchsorted(self._starts, ids, side="right") - 1
        order = np.argsort(sources.astype(self._source_dtype), kind="stable")
        ids = ids[order]
        cuts = np.searchsorted(sources[order], np.arange(len(self._starts))).tolist()
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        for name, out in taken.items():
            gathered = np.empty(out.shape, out.dtype)
            for view, first, start, stop in zip(
                self._views[name], self._starts, cuts, cuts[1:], strict=False
            ):
                if start < stop:
                    rows = ids[start:stop] - first
                    np.take(view, rows, axis=0, out=gathered[start:stop], mode="clip")
            np.take(gathered, back, axis=0, out=out, mode="clip")


def find_store(root: Storage, key: str, verify: Verify = "size") -> StoreManifest | None:
    """The finished store of this key below the plan's storage, or ``None``.

    A damaged one is not used: the reason is logged as a warning, and building anew replaces it.
    """
    return whole_manifest(store_folder(root, key), key, verify)


def _map(storage: Storage, shard: ShardInfo) -> pa.MemoryMappedFile:
    path = storage.local_path(shard.file)
    try:
        return pa.memory_map(str(path))
    except OSError as exc:
        raise DamagedError(f"cannot map {path}: {exc}") from exc


def _read_batches(
    columns: tuple[Column, ...], shard: ShardInfo, mapped: pa.MemoryMappedFile, place: str
) -> list[pa.RecordBatch]:
    try:
        reader = ipc.open_file(mapped)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException) as exc:
        raise DamagedError(f"{place} is not an Arrow file: {exc}") from exc
    if not reader.schema.equals(arrow_schema(columns), check_metadata=True):
        raise DamagedError(f"{place} has other columns than its manifest says")
    num_rows = sum(batch.num_rows for batch in batches)
    if num_rows != shard.num_rows:
        raise DamagedError(f"{place} has {num_rows} rows, but {shard.num_rows} were written")
    return batches
