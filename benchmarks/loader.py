"""How fast are samples read? Our loader beside ``torch.utils.data.DataLoader``, same shards.

``python benchmarks/loader.py`` prints samples per second of both on two stores: sequences of
257 bytes, and images of 64 float32 with a label. The DataLoader reads a map-style dataset over
the same memory-mapped shards, one sample at a time, shuffled, batches of 32, in the training
process and in 2 worker processes. Both deliver batches as torch tensors. Runs alternate; the
clock starts at the second batch, so that starting processes does not count. Writes
``benchmarks/results/loader.json``.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import ipc
from torch.utils.data import DataLoader, Dataset

from orchestrator.feed.columns import columns_of, to_numpy
from orchestrator.feed.cursor import Order
from orchestrator.feed.loader import Loader
from orchestrator.feed.manifest import ShardInfo, StoreManifest
from orchestrator.feed.store import SampleStore
from orchestrator.feed.write import commit_store, write_shard
from orchestrator.storage import Storage

BATCH = 32
NUM_SHARDS = 8
NUM_SAMPLES = 48_000
GOAL = 3.0


def sequences(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Byte sequences as ``jobs.gpt`` makes them."""
    random = np.random.default_rng(seed)
    for row in random.integers(0, 256, (count, 257), dtype=np.uint8):
        yield {"tokens": row}


def images(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Images and labels as ``jobs.digits`` makes them."""
    random = np.random.default_rng(seed)
    for row in random.random((count, 64), dtype=np.float32):
        yield {"image": row, "label": int(row[0] * 10)}


class ShardDataset(Dataset[dict[str, torch.Tensor]]):
    """What one writes by hand: one sample of a memory-mapped Arrow shard at a time."""

    def __init__(self, store: SampleStore, folder: Path) -> None:
        self.columns = store.columns
        self.files = [folder / shard.file for shard in store.manifest.shards]
        self.ends = np.cumsum([shard.num_rows for shard in store.manifest.shards]).tolist()
        self.views = [self._map(path) for path in self.files]

    def _map(self, path: Path) -> dict[str, np.ndarray[Any, Any]]:
        table = ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        return {column.name: to_numpy(column, table.column(column.name)) for column in self.columns}

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        shard = bisect.bisect_right(self.ends, index)
        row = index - (self.ends[shard - 1] if shard else 0)
        return {
            name: torch.from_numpy(view[row].copy()) if view.ndim > 1 else torch.tensor(view[row])
            for name, view in self.views[shard].items()
        }


def build_store(storage: Storage, make: Callable[[int, int], Iterator[dict[str, Any]]]) -> None:
    """Write ``NUM_SAMPLES`` samples as ``NUM_SHARDS`` shards."""
    shards: list[ShardInfo] = []
    for seed in range(NUM_SHARDS):
        shard = write_shard(storage, make(NUM_SAMPLES // NUM_SHARDS, seed))
        assert shard is not None
        shards.append(shard)
    columns = columns_of(next(make(1, 0)))
    commit_store(storage, StoreManifest("benchmark", columns, tuple(shards), "", ""))


def samples_per_second(batches: Iterable[Any]) -> float:
    """Samples of all batches but the first, over the time from the first to the last."""
    iterator = iter(batches)
    next(iterator)
    began = time.perf_counter()
    count = sum(1 for _ in iterator)
    return count * BATCH / (time.perf_counter() - began)


def ours(store: SampleStore) -> float:
    """Our loader, one rank, delivering torch tensors."""
    order = Order(seed=0, num_samples=store.num_samples, holdout=0.0)
    steps = store.num_samples // BATCH
    with Loader(
        store, order, global_batch=BATCH, micro_batch=BATCH, first_step=0, last_step=steps
    ) as loader:
        return samples_per_second(
            {name: torch.from_numpy(array) for name, array in micro.items()}
            for batch in loader
            for micro in batch.micro_batches
        )


def theirs(dataset: ShardDataset, num_workers: int) -> float:
    """The DataLoader with its usual settings."""
    torch.manual_seed(0)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=num_workers, drop_last=True)
    return samples_per_second(loader)


def measure(name: str, make: Any, runs: int, folder: Path) -> dict[str, Any]:
    """Median rates of one store, from ``runs`` alternating runs."""
    storage = Storage.open(str(folder / name))
    build_store(storage, make)
    store = SampleStore.open(storage)
    dataset = ShardDataset(store, storage.local_path())
    contenders: dict[str, Callable[[], float]] = {
        "axis": lambda: ours(store),
        "DataLoader, 0 workers": lambda: theirs(dataset, 0),
        "DataLoader, 2 workers": lambda: theirs(dataset, 2),
    }
    rates: dict[str, list[float]] = {label: [] for label in contenders}
    for _ in range(runs):
        for label, run in contenders.items():
            rates[label].append(run())
    return {
        "store": name,
        "samples": store.num_samples,
        "sample_bytes": sum(column.size_bytes for column in store.columns),
        "runs": rates,
        "median": {label: statistics.median(values) for label, values in rates.items()},
    }


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Median samples/s, and how many times the best DataLoader."""
    print(f"{'store':<12}{'loader':<24}{'samples/s':>12}{'axis is':>10}")
    for result in results:
        median = result["median"]
        for label, rate in median.items():
            factor = "" if label == "axis" else f"{median['axis'] / rate:.1f}x"
            print(f"{result['store']:<12}{label:<24}{rate:>12,.0f}{factor:>10}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    default = Path(__file__).parent / "results" / "loader.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [
            measure(name, make, arguments.runs, Path(folder))
            for name, make in (("seq-257", sequences), ("image-64", images))
        ]
    print_table(results)
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    report = {"batch": BATCH, "goal": GOAL, "machine": machine, "results": results}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
