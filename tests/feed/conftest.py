"""Small stores and Jobs for the tests of the feed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.feed.columns import columns_of
from orchestrator.feed.manifest import StoreManifest
from orchestrator.feed.write import commit_store, write_shard
from orchestrator.job import Job
from orchestrator.storage import Storage


class LineJob(Job):
    """One sample a row: the row's ``n``, its double, and a few bytes."""

    def samples(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        n = int(row["n"])
        yield {"n": n, "pair": np.array([n, 2 * n], np.int32), "even": n % 2 == 0}


def numbered(start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Samples that name themselves, in columns of several dtypes and shapes."""
    for n in range(start, stop):
        yield {
            "id": n,
            "grid": np.full((2, 3), n, np.float32),
            "flags": np.array([n % 2 == 0, n % 3 == 0]),
            "half": np.float16(n % 100),
            "bytes": np.full(5, n % 256, np.uint8),
        }


MakeStore = Callable[..., StoreManifest]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def make_store() -> MakeStore:
    def make(storage: Storage, sizes: tuple[int, ...], key: str = "key") -> StoreManifest:
        """A store of ``numbered`` samples, in shards of the given sizes."""
        ends = np.cumsum(sizes).tolist()
        shards = [
            write_shard(storage, numbered(end - n, end)) for n, end in zip(sizes, ends, strict=True)
        ]
        columns = columns_of(next(numbered(0, 1)))
        kept = tuple(shard for shard in shards if shard is not None)
        return commit_store(storage, StoreManifest(key, columns, kept, "plan", "code"))

    return make


@pytest.fixture
def line_job() -> Job:
    return LineJob()
