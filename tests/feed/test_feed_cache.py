"""Remote shards are fetched once, checked, and kept within bounds."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs

from orchestrator.errors import DamagedError, DeadlineExceeded, InfeasibleError, StorageError
from orchestrator.feed.cache import ShardCache
from orchestrator.feed.manifest import StoreManifest
from orchestrator.feed.store import SampleStore
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    """Not local as far as anybody can tell."""
    (tmp_path / "far").mkdir()
    return Storage.on(fs.SubTreeFileSystem(str(tmp_path / "far"), fs.LocalFileSystem()), "store")


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache")


def cached(cache: ShardCache) -> set[str]:
    return {path.name for path in cache.folder.glob("*.arrow")}


def test_a_remote_store_reads_like_a_local_one(
    remote: Storage, cache: ShardCache, make_store: Any
) -> None:
    manifest = make_store(remote, (10, 20))
    store = SampleStore.open(remote, cache=cache)
    assert store.take(np.array([29, 0, 10]))["id"].tolist() == [29, 0, 10]
    assert cached(cache) == {f"{shard.sha256}.arrow" for shard in manifest.shards}
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_shard_is_fetched_once(remote: Storage, cache: ShardCache, make_store: Any) -> None:
    manifest: StoreManifest = make_store(remote, (10, 20))
    cache.map_shards(remote, manifest.shards)
    for shard in manifest.shards:
        remote.delete(shard.file)
    maps = cache.map_shards(remote, manifest.shards)
    assert [mapped.size() for mapped in maps] == [shard.size_bytes for shard in manifest.shards]


def test_fetched_bytes_are_checked(
    remote: Storage, cache: ShardCache, make_store: Any, tmp_path: Path
) -> None:
    manifest = make_store(remote, (100,))
    path = tmp_path / "far" / "store" / manifest.shards[0].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="is not what was written: sha256"):
        SampleStore.open(remote, cache=cache)
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def test_a_shard_that_cannot_be_fetched_leaves_nothing(
    remote: Storage, cache: ShardCache, make_store: Any
) -> None:
    manifest = make_store(remote, (10,))
    remote.delete(manifest.shards[0].file)
    with pytest.raises(StorageError, match="cannot open"):
        cache.map_shards(remote, manifest.shards)
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def test_the_longest_unused_goes_first(remote: Storage, tmp_path: Path, make_store: Any) -> None:
    shards = make_store(remote, (10, 11, 12)).shards
    room = sum(shard.size_bytes for shard in shards[1:])
    cache = ShardCache(tmp_path / "cache", limit_bytes=room)
    for age, shard in enumerate(shards[:2]):
        cache.map_shards(remote, [shard])
        os.utime(cache.folder / f"{shard.sha256}.arrow", (1000 - age, 1000 - age))
    store = cache.map_shards(remote, [shards[0]])  # used again: now the youngest
    cache.map_shards(remote, [shards[2]])
    assert cached(cache) == {f"{shards[i].sha256}.arrow" for i in (0, 2)}
    # What another reader has mapped stays readable after it is evicted.
    cache.map_shards(remote, shards[1:])
    assert cached(cache) == {f"{shards[i].sha256}.arrow" for i in (1, 2)}
    assert len(store[0].read()) == shards[0].size_bytes


def test_a_store_larger_than_the_cache_is_refused_with_the_numbers(
    remote: Storage, tmp_path: Path, make_store: Any
) -> None:
    manifest = make_store(remote, (10, 20))
    cache = ShardCache(tmp_path / "cache", limit_bytes=100)
    with pytest.raises(InfeasibleError, match=f"{manifest.size_bytes} bytes.*may hold 100"):
        SampleStore.open(remote, cache=cache)


def test_waiting_for_another_process_has_a_deadline(
    remote: Storage, tmp_path: Path, make_store: Any
) -> None:
    manifest = make_store(remote, (10,))
    cache = ShardCache(tmp_path / "cache", timeout_seconds=0.1)
    cache.folder.mkdir()
    with (cache.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeadlineExceeded, match="another process that fetches"):
            cache.map_shards(remote, manifest.shards)
    cache.map_shards(remote, manifest.shards)


def test_a_cache_in_an_impossible_place_is_named(
    remote: Storage, tmp_path: Path, make_store: Any
) -> None:
    manifest = make_store(remote, (10,))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create the cache"):
        ShardCache(tmp_path / "file" / "cache").map_shards(remote, manifest.shards)


def test_by_default_it_lies_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/somewhere")
    assert ShardCache().folder == Path(f"/somewhere/axis-shards-{os.getuid()}")
