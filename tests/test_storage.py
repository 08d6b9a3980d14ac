"""Storage: durable writes, listings and failures that name the place, local and remote."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from orchestrator.errors import StorageError
from orchestrator.storage import Storage, durable, redact_uri
from orchestrator.storage.uri import extend_uri

pytestmark = pytest.mark.unit


@pytest.fixture(params=["local", "subtree", "fsspec", "mock"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage.open("folder", base=tmp_path)
    if request.param == "subtree":
        return Storage.on(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "")
    if request.param == "mock":
        return Storage.on(fs._MockFileSystem(), "folder")
    memory = MemoryFileSystem(skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, [""]
    return Storage.on(fs.PyFileSystem(fs.FSSpecHandler(memory)), "/folder")


def test_bytes_come_back(storage: Storage) -> None:
    storage.write_atomic("a/b.bin", b"one")
    storage.write_atomic("a/b.bin", b"two")
    assert storage.read_bytes("a/b.bin") == b"two"
    assert storage.exists("a/b.bin")
    assert storage.exists("a")
    assert not storage.exists("a/c.bin")


def test_append_adds_to_the_end(storage: Storage) -> None:
    storage.append("journal/1.jsonl", b"one\n")
    storage.append("journal/1.jsonl", b"two\n")
    assert storage.read_bytes("journal/1.jsonl") == b"one\ntwo\n"


def test_list_is_sorted_and_relative(storage: Storage) -> None:
    assert storage.list() == []
    assert storage.list("nothing", recursive=True) == []
    for name in ("b/2", "b/1", "a"):
        storage.write_atomic(name, b"12")
    assert [(e.path, e.is_dir, e.size_bytes) for e in storage.list()] == [
        ("a", False, 2),
        ("b", True, 0),
    ]
    assert [e.path for e in storage.list(recursive=True)] == ["a", "b", "b/1", "b/2"]
    assert [e.path for e in storage.list("b")] == ["b/1", "b/2"]
    assert [e.path for e in storage.child("b").list()] == ["1", "2"]


def test_child_sees_the_same_files(storage: Storage) -> None:
    storage.child("x/y").write_atomic("z", b"1")
    assert storage.read_bytes("x/y/z") == b"1"
    assert storage.child("x/y").uri.endswith("/x/y")


def test_move_and_delete_files_and_folders(storage: Storage) -> None:
    storage.write_atomic("run/a", b"1")
    storage.write_atomic("run/deep/b", b"2")
    storage.move("run/a", "run/c")
    storage.move("run", "aside/run-1")
    assert not storage.exists("run/a")
    assert storage.read_bytes("aside/run-1/c") == b"1"
    assert storage.read_bytes("aside/run-1/deep/b") == b"2"
    assert not storage.exists("run/deep/b")
    storage.delete("aside/run-1/c")
    assert not storage.exists("aside/run-1/c")
    storage.delete_dir("aside")
    assert not storage.exists("aside/run-1/deep/b")


def test_streams_are_seekable(storage: Storage) -> None:
    with storage.open_output("new/file") as out:
        out.write(b"0123456789")
    with storage.open_input("new/file") as file:
        file.seek(4)
        assert file.read(2) == b"45"


def test_stat_tells_size_or_nothing(storage: Storage) -> None:
    storage.write_atomic("a", b"123")
    entry = storage.stat("a")
    assert entry is not None
    assert (entry.path, entry.size_bytes) == ("a", 3)
    assert storage.stat("b") is None


def test_missing_files_are_storage_errors(storage: Storage) -> None:
    for action in (storage.read_bytes, storage.open_input, storage.delete):
        with pytest.raises(StorageError, match="missing"):
            action("missing")


def test_check_writable_leaves_nothing(storage: Storage) -> None:
    storage.check_writable()
    assert storage.list(recursive=True) == []


def test_paths_cannot_leave_the_folder(storage: Storage) -> None:
    for path in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(StorageError, match="not a path below"):
            storage.exists(path)


def test_local_storage_has_paths_and_pickles(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path / "runs"))
    storage.write_atomic("a", b"1")
    assert storage.is_local
    assert storage.local_path("a").read_bytes() == b"1"
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage
    assert again.read_bytes("a") == b"1"


def test_relative_paths_are_taken_from_the_base(tmp_path: Path) -> None:
    assert Storage.open("runs", tmp_path).uri == f"{tmp_path}/runs"
    assert Storage.open("./a/../runs", tmp_path).uri == f"{tmp_path}/runs"
    assert Storage.open(f"file://{tmp_path}/runs").uri == f"{tmp_path}/runs"
    assert Storage.open("~/runs").uri == str(Path.home() / "runs")


def test_remote_storage_has_no_path() -> None:
    storage = Storage.on(fs._MockFileSystem(), "folder")
    assert not storage.is_local
    with pytest.raises(StorageError, match="no path on this machine"):
        storage.local_path("a")


@pytest.mark.parametrize("uri", ["gopher://x/y", "", "  "])
def test_unknown_places_are_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=r"folder"):
        Storage.open(uri)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    storage = Storage.open(str(tmp_path / "runs"))
    with pytest.raises(StorageError, match=rf"{tmp_path}/runs is not writable: cannot write"):
        storage.check_writable()
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize("failing", ["replace", "sync_path"])
def test_a_failed_write_keeps_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write_atomic("a", b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "replace":
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        storage.write_atomic("a", b"new")
    monkeypatch.undo()
    assert storage.read_bytes("a") == b"old"
    assert [entry.path for entry in storage.list()] == ["a"]


def test_writes_reach_the_disk_before_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        calls.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name[:4])
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    Storage.open(str(tmp_path / "runs")).write_atomic("file", b"1")
    # The new folder is made durable in its parent, then the bytes, then the name.
    assert calls == [f"sync {tmp_path.name[:4]}", "sync .fil", "rename", "sync runs"]


def test_temporary_names_are_recognised() -> None:
    name = durable.temporary_name("store.json")
    assert name != durable.temporary_name("store.json")
    assert durable.is_temporary(f"a/{name}")
    assert not durable.is_temporary("a/store.json")
    assert not durable.is_temporary("a/shard.tmp-1")


def test_credentials_are_not_shown() -> None:
    uri = "s3://key:secret@bucket/runs?endpoint_override=localhost:9000&secret=1"
    assert redact_uri(uri) == "s3://bucket/runs"
    assert extend_uri(uri, "a/b").startswith("s3://key:secret@bucket/runs/a/b?endpoint_override")
    storage = Storage.on(fs._MockFileSystem(), "bucket", uri)
    with pytest.raises(StorageError) as caught:
        storage.read_bytes("x")
    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(data=st.binary(max_size=4096), more=st.binary(max_size=64))
def test_any_bytes_round_trip(tmp_path_factory: pytest.TempPathFactory, data: bytes, more: bytes):
    storage = Storage.open(str(tmp_path_factory.mktemp("bytes")))
    storage.write_atomic("f", data)
    storage.append("f", more)
    assert storage.read_bytes("f") == data + more


@pytest.mark.unit
def test_a_folder_that_is_created_while_it_is_listed_is_no_failure(tmp_path: Path) -> None:
    """Each listing begins before the folder is there and ends after it."""
    failures: list[BaseException] = []

    def watch(storage: Storage, go: threading.Event) -> None:
        go.set()
        try:
            while not storage.list("journal"):
                pass
        except BaseException as error:
            failures.append(error)

    for number in range(200):
        storage, go = Storage.open(str(tmp_path / str(number))), threading.Event()
        watcher = threading.Thread(target=watch, args=(storage, go))
        watcher.start()
        go.wait(10)
        storage.write_atomic("journal/one", b"1")
        watcher.join(10)
    assert not failures, failures
