"""A PyTorch dataset over Arrow shards that are memory-mapped, one sample at a time."""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import ipc
from torch.utils.data import Dataset


class ShardDataset(Dataset[dict[str, torch.Tensor]]):
    """All samples of ``folder/shard-*.arrow``; columns are numbers or fixed-size lists of them."""

    def __init__(self, folder: Path) -> None:
        self.batches = [
            _arrays(batch)
            for path in sorted(folder.glob("shard-*.arrow"))
            for batch in _record_batches(path)
        ]
        sizes = [len(next(iter(batch.values()))) for batch in self.batches]
        self.ends = np.cumsum(sizes).tolist()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        place = bisect.bisect_right(self.ends, index)
        row = index - (self.ends[place - 1] if place else 0)
        return {
            name: torch.from_numpy(array[row].copy())
            if array.ndim > 1
            else torch.tensor(array[row])
            for name, array in self.batches[place].items()
        }


class BatchShardDataset(ShardDataset):
    """The same, read a batch at a time: hand it to a DataLoader with ``collate_fn=whole``.

    All shards are joined in memory, so that one gather fills a batch.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.columns = {
            name: np.concatenate([batch[name] for batch in self.batches])
            for name in self.batches[0]
        }

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array[indices]) for name, array in self.columns.items()}


def whole(batch: Any) -> Any:
    """A batch that needs no collating."""
    return batch


def _record_batches(path: Path) -> list[pa.RecordBatch]:
    reader = ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(index) for index in range(reader.num_record_batches)]


def _arrays(batch: pa.RecordBatch) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if pa.types.is_fixed_size_list(column.type):
            arrays[name] = column.flatten().to_numpy().reshape(len(column), -1)
        else:
            arrays[name] = column.to_numpy()
    return arrays
