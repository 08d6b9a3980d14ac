"""Samples become shards: exact values, one form, nothing left of a file that was bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator.errors import DamagedError, StorageError
from orchestrator.feed.buffer import SampleBuffer, encode_samples
from orchestrator.feed.columns import Column, columns_of, to_numpy
from orchestrator.feed.manifest import MANIFEST_FILE, StoreManifest, read_manifest
from orchestrator.feed.store import SampleStore
from orchestrator.feed.write import (
    ShardWriter,
    commit_store,
    sweep_store,
    whole_manifest,
    write_shard,
)
from orchestrator.storage import Storage
from orchestrator.storage.durable import temporary_name

pytestmark = pytest.mark.unit

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
dtypes = st.sampled_from(["bool", "float16", "float32", "float64", *INTEGERS])
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))


@settings(deadline=None)
@given(stacked=arrays)
def test_any_numeric_array_comes_back_bit_for_bit(stacked: np.ndarray) -> None:
    batch = encode_samples({"x": row} for row in stacked)
    column = columns_of({"x": stacked[0]})[0]
    assert column == Column("x", stacked.dtype.name, stacked.shape[1:])
    back = to_numpy(column, batch.column("x"))
    assert back.dtype == stacked.dtype
    assert back.shape == stacked.shape
    assert back.tobytes() == stacked.tobytes()


def test_python_numbers_become_scalars() -> None:
    columns = columns_of({"f": 0.5, "i": 3, "b": True, "n": np.float32(1)})
    assert {c.name: c.describe() for c in columns} == {
        "b": "bool",
        "f": "float64",
        "i": "int64",
        "n": "float32",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "'x'.*a str"),
        ([1, 2], "'x'.*a list"),
        (None, "'x'.*a NoneType"),
        (np.array(["a"]), "'x'.*dtype <U1"),
        (np.array([1, None]), "'x'.*dtype object"),
        (np.array([1j]), "'x'.*complex128"),
        (np.datetime64("2020-01-01"), r"'x'.*datetime64"),
        (np.zeros((2, 0)), r"'x'.*shape \[2, 0\]"),
        (2**70, "'x'.*dtype object"),
    ],
)
def test_what_has_no_fixed_numeric_form_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encode_samples([{"x": value}])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"x": np.zeros(4, np.uint8)}, r"sample\['x'\] is uint8\[4\]; earlier .* uint8\[3\]"),
        ({"x": np.zeros(3, np.int8)}, r"sample\['x'\] is int8\[3\]; earlier .* uint8\[3\]"),
        ({"y": np.zeros(3, np.uint8)}, "has the keys y; earlier samples have x"),
        ({"x": np.zeros(3, np.uint8), "y": 1}, "has the keys x, y; earlier samples have x"),
        ({}, "has the keys ; earlier samples have x"),
        (("x",), "not tuple"),
        (None, "not NoneType"),
    ],
)
def test_samples_of_another_form_are_refused(second: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encode_samples([{"x": np.zeros(3, np.uint8)}, second])


def test_the_first_sample_must_be_a_mapping_with_string_keys() -> None:
    for wrong, message in (([1], "not list"), ({}, "at least one key"), ({1: 2}, "strings")):
        with pytest.raises(TypeError, match=message):
            encode_samples([wrong])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no samples"):
        encode_samples([])


def test_a_reused_array_is_copied_and_key_order_and_byte_order_do_not_matter() -> None:
    buffer, shared = SampleBuffer(), np.zeros(2, np.int32)
    for n in range(200):
        shared[:] = n
        buffer.add({"b": n, "a": shared} if n % 2 else {"a": shared.astype(">i4"), "b": n})
    batch = buffer.batch()
    assert batch.schema.names == ["a", "b"]
    assert batch.column("a").to_pylist() == [[n, n] for n in range(200)]


def big(n: int, rows: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.full(16, n, np.uint8)} for _ in range(rows)]


FILES = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(files=FILES)
def test_bad_files_leave_nothing_whatever_their_size(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, bool]]
) -> None:
    """A batch holds 10 samples here, so most files are partly written when they turn out bad."""
    storage = Storage.open(str(tmp_path_factory.mktemp("shard")))
    writer = ShardWriter(storage, batch_bytes=160)
    for number, (rows, good) in enumerate(files):
        writer.begin_file()
        for sample in big(number, rows):
            writer.add(sample)
        if not good:
            writer.drop_file()
    shard = writer.finish()
    expected = [number for number, (rows, good) in enumerate(files) for _ in range(rows * good)]
    assert len(storage.list()) == (1 if expected else 0)
    if shard is None:
        assert expected == []
        return
    manifest = StoreManifest("k", writer.columns, (shard,), "", "")
    commit_store(storage, manifest)
    store = SampleStore.open(storage, verify="sha256")
    assert store.take(np.arange(store.num_samples))["x"][:, 0].tolist() == expected


def test_a_bad_file_does_not_fix_the_form_of_good_ones(storage: Storage) -> None:
    writer = ShardWriter(storage, batch_bytes=16)
    writer.begin_file()
    for _ in range(3):
        writer.add({"other": np.zeros(16, np.float32)})
    writer.drop_file()
    writer.begin_file()
    writer.add({"x": 1})
    shard = writer.finish()
    assert shard is not None
    assert shard.num_rows == 1
    assert [column.name for column in writer.columns] == ["x"]


def test_shards_are_named_by_content(storage: Storage) -> None:
    first = write_shard(storage, big(1, 5))
    again = write_shard(storage, big(1, 5))
    other = write_shard(storage, big(2, 5))
    assert first == again
    assert first is not None
    assert other is not None
    assert first.file != other.file
    assert sorted(entry.path for entry in storage.list()) == sorted({first.file, other.file})


def test_no_samples_make_no_shard(storage: Storage) -> None:
    assert write_shard(storage, []) is None
    assert storage.list() == []


def test_an_error_midway_leaves_no_file(storage: Storage) -> None:
    writer = ShardWriter(storage, batch_bytes=32)
    for sample in big(1, 10):
        writer.add(sample)
    with pytest.raises(TypeError, match="'x'"):
        writer.add({"x": "text"})
    assert len(storage.list()) == 1
    writer.abort()
    assert storage.list() == []


def test_a_full_disk_is_a_storage_error(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.feed.write._HashedFile.take_bytes", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        write_shard(storage, big(1, 5))
    monkeypatch.undo()
    assert storage.list() == []


def test_commit_refuses_missing_and_short_shards(storage: Storage) -> None:
    shard = write_shard(storage, big(1, 5))
    assert shard is not None
    manifest = StoreManifest("k", columns_of(big(1, 1)[0]), (shard,), "p", "c")
    path = storage.local_path(shard.file)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedError, match=f"{len(data) - 1} bytes, but {len(data)} were written"):
        commit_store(storage, manifest)
    path.unlink()
    with pytest.raises(DamagedError, match="is missing"):
        commit_store(storage, manifest)
    assert not storage.exists(MANIFEST_FILE)


def test_the_first_of_two_builders_wins(storage: Storage) -> None:
    first, second = write_shard(storage, big(1, 5)), write_shard(storage, big(2, 5))
    assert first is not None
    assert second is not None
    columns = columns_of(big(1, 1)[0])
    one = commit_store(storage, StoreManifest("k", columns, (first,), "p", "c"))
    two = commit_store(storage, StoreManifest("k", columns, (second,), "p", "c"))
    assert two == one == read_manifest(storage)
    storage.delete(first.file)  # damaged: now the second may replace it
    three = commit_store(storage, StoreManifest("k", columns, (second,), "p", "c"))
    assert three.shards == (second,)


def test_a_store_of_another_key_is_not_reused(storage: Storage, make_store: Any) -> None:
    assert whole_manifest(storage, "key") is None
    manifest = make_store(storage, (5, 5))
    assert whole_manifest(storage, "key") == manifest
    assert whole_manifest(storage, "another") is None


def test_sweep_deletes_what_dead_attempts_left(storage: Storage, make_store: Any) -> None:
    orphan = write_shard(storage, big(9, 3))
    assert orphan is not None
    torn = temporary_name("shard")
    storage.write_atomic("notes.txt", b"not ours")
    storage.write_atomic(torn, b"half a shard")
    with pytest.raises(DamagedError, match="no finished sample store"):
        sweep_store(storage)
    manifest = make_store(storage, (5, 5))
    assert sweep_store(storage) == ()  # another driver may be writing them
    assert sweep_store(storage, grace_seconds=0) == tuple(sorted([torn, orphan.file]))
    left = {entry.path for entry in storage.list()}
    assert left == {MANIFEST_FILE, "notes.txt", *(shard.file for shard in manifest.shards)}


def test_content_hash_follows_content_and_order(storage: Storage) -> None:
    one, two = write_shard(storage, big(1, 5)), write_shard(storage, big(2, 5))
    assert one is not None
    assert two is not None
    columns = columns_of(big(1, 1)[0])

    def content(shards: tuple[Any, ...], columns: Any = columns, **rest: Any) -> str:
        return StoreManifest("k", columns, shards, "p", "c", **rest).content_hash

    assert content((one, two)) != content((two, one))
    assert content((one, two)) != content((one,))
    assert content((one,)) != content((one,), (Column("x", "uint8", (4, 4)),))
    assert content((one,)) == content((one,), num_rows_read=7)


def test_manifest_round_trips(storage: Storage, make_store: Any) -> None:
    manifest: StoreManifest = make_store(storage, (3, 4))
    again = StoreManifest.from_bytes(manifest.to_bytes(), "here")
    assert again == manifest
    assert again.num_samples == 7
    assert isinstance(again.columns, tuple)
    assert isinstance(dict(again.source), Mapping)
