"""How fast are samples read? Our loader beside ``torch.utils.data.DataLoader``, same shards.

Samples per second of both on two stores: sequences of 257 bytes, and images of 64 float32 with a
label. The DataLoader reads a map-style dataset over the same memory-mapped shards, one sample at
a time, shuffled, batches of 32, in the training process and in 2 worker processes. Both deliver
batches as torch tensors. Runs alternate; the clock starts at the second batch, so that starting
processes does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.by_hand.shards import BatchShardDataset, ShardDataset, whole
from benchmarks.comparison import Comparison, Outcome
from benchmarks.workplace import Workplace, say
from orchestrator.feed.columns import columns_of
from orchestrator.feed.cursor import Order
from orchestrator.feed.loader import Loader
from orchestrator.feed.manifest import ShardInfo, StoreManifest
from orchestrator.feed.store import SampleStore
from orchestrator.feed.write import commit_store, write_shard
from orchestrator.storage import Storage

BATCH = 32
NUM_SHARDS = 8
GOAL = 3.0
AXIS, IN_PROCESS, IN_WORKERS, IN_BATCHES = (
    "axis",
    "DataLoader",
    "DataLoader with 2 workers",
    "DataLoader that gathers batches in memory",
)


def measure(place: Workplace) -> Outcome:
    """Samples per second of all of them, on both stores."""
    torch.set_num_threads(1)
    num_samples, runs = place.size(48_000, 4_800), place.size(5, 2)
    comparisons = []
    for name, make in (("sequences", sequences), ("images", images)):
        rates = _rates(place.folder / f"loader-{name}", make, num_samples, runs)
        comparisons += [
            Comparison(f"loading {name}", "samples/s", rates[AXIS], rates[label], label, goal)
            for label, goal in ((IN_PROCESS, GOAL), (IN_WORKERS, GOAL), (IN_BATCHES, None))
        ]
    return Outcome(
        "Loading: shuffled batches of 32 from shards that are memory-mapped",
        comparisons,
        settings={"batch": BATCH, "samples": num_samples, "shards": NUM_SHARDS},
    )


def _rates(folder: Path, make: Any, num_samples: int, runs: int) -> dict[str, list[float]]:
    storage = Storage.open(str(folder))
    build_store(storage, make, num_samples)
    store = SampleStore.open(storage)
    dataset, batched = ShardDataset(folder), BatchShardDataset(folder)
    contenders: dict[str, Callable[[], float]] = {
        AXIS: lambda: ours(store),
        IN_PROCESS: lambda: theirs(dataset, 0),
        IN_WORKERS: lambda: theirs(dataset, 2),
        IN_BATCHES: lambda: theirs(batched, 0, collate_fn=whole),
    }
    rates: dict[str, list[float]] = {label: [] for label in contenders}
    for turn in range(runs):
        for label in contenders if turn % 2 == 0 else reversed(contenders):
            rates[label].append(contenders[label]())
            say(f"{folder.name}, {label}: {rates[label][-1]:,.0f} samples/s")
    return rates


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


def build_store(
    storage: Storage, make: Callable[[int, int], Iterator[dict[str, Any]]], num_samples: int
) -> None:
    """Write ``num_samples`` samples as ``NUM_SHARDS`` shards."""
    shards: list[ShardInfo] = []
    for seed in range(NUM_SHARDS):
        shard = write_shard(storage, make(num_samples // NUM_SHARDS, seed))
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


def theirs(dataset: ShardDataset, num_workers: int, **options: Any) -> float:
    """The DataLoader with its usual settings."""
    torch.manual_seed(0)
    loader = DataLoader(
        dataset, BATCH, shuffle=True, num_workers=num_workers, drop_last=True, **options
    )
    return samples_per_second(loader)
