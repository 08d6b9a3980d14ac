"""Samples come back by id; damage of any kind is told before a sample is read."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DamagedError
from orchestrator.feed.keys import store_folder
from orchestrator.feed.manifest import MANIFEST_FILE, StoreManifest
from orchestrator.feed.store import SampleStore, find_store
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


def check(taken: dict[str, np.ndarray], ids: np.ndarray) -> None:
    assert np.array_equal(taken["id"], ids)
    assert np.array_equal(taken["grid"], np.broadcast_to(ids[:, None, None], (len(ids), 2, 3)))
    assert np.array_equal(taken["flags"], np.stack([ids % 2 == 0, ids % 3 == 0], 1).reshape(-1, 2))
    assert np.array_equal(taken["half"], (ids % 100).astype(np.float16))
    assert np.array_equal(taken["bytes"], np.repeat(ids % 256, 5).reshape(-1, 5))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    data=st.data(),
)
def test_any_selection_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, make_store: Any, sizes: list[int], data: Any
) -> None:
    storage = Storage.open(str(tmp_path_factory.mktemp("store")))
    make_store(storage, tuple(sizes))
    store = SampleStore.open(storage)
    assert store.num_samples == sum(sizes)
    ids = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=60))
    check(store.take(np.array(ids, np.int64)), np.array(ids, np.int64))


def test_arrays_are_new_writable_and_contiguous(storage: Storage, make_store: Any) -> None:
    make_store(storage, (10, 10))
    store = SampleStore.open(storage)
    taken = store.take(np.array([15, 3]))
    assert {name: (a.dtype.name, a.shape) for name, a in taken.items()} == {
        "id": ("int64", (2,)),
        "grid": ("float32", (2, 2, 3)),
        "flags": ("bool", (2, 2)),
        "half": ("float16", (2,)),
        "bytes": ("uint8", (2, 5)),
    }
    for array in taken.values():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        array[:] = 0
    check(store.take(np.array([15, 3])), np.array([15, 3]))


def test_arrays_come_from_the_given_allocator(storage: Storage, make_store: Any) -> None:
    make_store(storage, (10, 10))
    asked: list[tuple[int, ...]] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        asked.append(shape)
        return np.empty(shape, dtype)

    SampleStore.open(storage).take(np.array([1, 2, 3]), allocate)
    assert sorted(asked) == [(3,), (3,), (3, 2), (3, 2, 3), (3, 5)]


@pytest.mark.parametrize("wrong", [-1, 20, 2**40])
def test_ids_outside_of_the_store_are_refused(
    storage: Storage, make_store: Any, wrong: int
) -> None:
    make_store(storage, (10, 10))
    with pytest.raises(IndexError, match=f"no sample {wrong} among the 20"):
        SampleStore.open(storage).take(np.array([0, wrong]))


def test_a_shard_may_occur_twice(storage: Storage, make_store: Any) -> None:
    manifest: StoreManifest = make_store(storage, (4,))
    storage.delete(MANIFEST_FILE)
    twice = StoreManifest("k", manifest.columns, manifest.shards * 2, "", "")
    storage.write_atomic(MANIFEST_FILE, twice.to_bytes())
    assert SampleStore.open(storage).take(np.arange(8))["id"].tolist() == [0, 1, 2, 3] * 2


def test_a_flipped_byte_is_found_by_its_checksum(storage: Storage, make_store: Any) -> None:
    manifest = make_store(storage, (50, 50))
    path = storage.local_path(manifest.shards[1].file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    SampleStore.open(storage, verify="size")
    with pytest.raises(DamagedError, match=rf"{path.name} is not what was written: sha256"):
        SampleStore.open(storage, verify="sha256")


def test_a_truncated_shard_is_found(storage: Storage, make_store: Any) -> None:
    manifest = make_store(storage, (50, 50))
    path = storage.local_path(manifest.shards[0].file)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=r"bytes, but \d+ were written"):
        SampleStore.open(storage)


def test_a_missing_shard_is_found(storage: Storage, make_store: Any) -> None:
    manifest = make_store(storage, (50, 50))
    storage.delete(manifest.shards[0].file)
    with pytest.raises(DamagedError, match=f"{manifest.shards[0].file} is missing"):
        SampleStore.open(storage)


def test_a_shard_of_the_right_size_that_is_no_arrow_file(storage: Storage, make_store: Any) -> None:
    manifest = make_store(storage, (50,))
    shard = manifest.shards[0]
    storage.local_path(shard.file).write_bytes(b"\0" * shard.size_bytes)
    with pytest.raises(DamagedError, match="is not an Arrow file"):
        SampleStore.open(storage)


def test_rows_and_columns_must_be_those_of_the_manifest(storage: Storage, make_store: Any) -> None:
    manifest: StoreManifest = make_store(storage, (50,))
    short = replace(manifest, shards=(replace(manifest.shards[0], num_rows=49),))
    storage.write_atomic(MANIFEST_FILE, short.to_bytes())
    with pytest.raises(DamagedError, match="has 50 rows, but 49"):
        SampleStore.open(storage)
    other = replace(manifest, columns=manifest.columns[:-1])
    storage.write_atomic(MANIFEST_FILE, other.to_bytes())
    with pytest.raises(DamagedError, match="other columns"):
        SampleStore.open(storage)


def test_without_a_manifest_there_is_no_store(storage: Storage, make_store: Any) -> None:
    make_store(storage, (5,))
    storage.delete(MANIFEST_FILE)
    with pytest.raises(DamagedError, match=r"store\.json, which is written last, is missing"):
        SampleStore.open(storage)


def test_a_manifest_of_a_newer_format_says_so(storage: Storage, make_store: Any) -> None:
    manifest = make_store(storage, (5,))
    body = json.loads(manifest.to_bytes())
    body["format"] = 2
    storage.write_atomic(MANIFEST_FILE, json.dumps(body).encode())
    with pytest.raises(DamagedError, match="format 2; this version reads up to 1"):
        SampleStore.open(storage)


@settings(deadline=None)
@given(data=st.data())
def test_any_damage_to_a_manifest_is_found(
    tmp_path_factory: pytest.TempPathFactory, make_store: Any, data: Any
) -> None:
    storage = Storage.open(str(tmp_path_factory.getbasetemp() / "damaged-manifest"))
    whole = make_store(storage, (5, 6)).to_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 3))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        read = StoreManifest.from_bytes(damaged, "here")
    except DamagedError:
        return
    assert read == StoreManifest.from_bytes(whole, "here")  # only white space was touched


def test_find_store_wants_the_key_and_all_shards(
    tmp_path: Any, make_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    root, key = Storage.open(str(tmp_path)), "ab" * 32
    assert find_store(root, key) is None
    manifest = make_store(store_folder(root, key), (5, 5), key)
    assert find_store(root, key) == manifest
    with caplog.at_level(logging.WARNING):
        store_folder(root, key).delete(manifest.shards[0].file)
        assert find_store(root, key) is None
    assert "an existing sample store is not used" in caplog.text
