"""Sources on remote file systems: a corrupt file is the file's fault, a lost network is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from orchestrator.errors import PlanError, StorageError
from orchestrator.feed import pieces, readers
from orchestrator.feed.pieces import Piece, list_pieces
from orchestrator.feed.readers import BadFileError, read_piece
from orchestrator.plan.data import JsonlSource

pytestmark = pytest.mark.unit

SOURCE = JsonlSource(path="s3://bucket/corpus")


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is reached as if it were far away; returns it as it is on this machine."""
    filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(pieces, "source_root", lambda source, base=None: (filesystem, "corpus"))
    monkeypatch.setattr(readers, "_filesystem", lambda source: filesystem)
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    return tmp_path / "corpus"


def test_remote_files_are_listed_and_read(remote: Path) -> None:
    (remote / "b.jsonl").write_text('{"n": 2}\n')
    (remote / "deep" / "a.jsonl").write_text('{"n": 1}\n')
    (remote / "c.txt").write_text("not asked for")
    listed = list_pieces(SOURCE)
    assert [piece.path for piece in listed] == ["corpus/b.jsonl", "corpus/deep/a.jsonl"]
    assert [row for piece in listed for row in read_piece(SOURCE, piece)] == [{"n": 2}, {"n": 1}]


def test_a_missing_remote_folder_is_a_plan_problem(remote: Path) -> None:
    (remote / "deep").rmdir()
    remote.rmdir()
    with pytest.raises(PlanError, match="there is no file or folder s3://bucket/corpus"):
        list_pieces(SOURCE)


def test_a_corrupt_remote_file_is_bad(remote: Path) -> None:
    (remote / "a.jsonl").write_text("{")
    with pytest.raises(BadFileError, match="line 1 is not JSON"):
        list(read_piece(SOURCE, list_pieces(SOURCE)[0]))
    (remote / "a.jsonl.gz").write_bytes(b"not gzip at all")
    with pytest.raises(BadFileError):
        list(read_piece(SOURCE, Piece("corpus/a.jsonl.gz", 15, 0)))


def test_a_vanished_remote_file_is_bad(remote: Path) -> None:
    with pytest.raises(BadFileError, match="No such file"):
        list(read_piece(SOURCE, Piece("corpus/gone.jsonl", 5, 0)))


def test_a_network_that_is_down_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def open_input_stream(self, path: str, **_: Any) -> Any:
            raise OSError("Could not connect to server")

    monkeypatch.setattr(readers, "_filesystem", lambda source: Unreachable())
    with pytest.raises(StorageError, match=r"cannot read corpus/a\.jsonl: Could not connect"):
        list(read_piece(SOURCE, Piece("corpus/a.jsonl", 5, 0)))
