"""Sources list their files, and groups share them out evenly and in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import PlanError
from orchestrator.feed.pieces import Piece, glob_pattern, group_pieces, list_pieces
from orchestrator.plan.data import CsvSource, JsonlSource, TextSource

pytestmark = pytest.mark.unit


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for name in ("b.txt", "a/c.txt", "a/d/e.txt", "a/f.md", ".hidden/g.txt", "a/.h.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(root: Path, glob: str) -> list[str]:
    source = TextSource(path=str(root), glob=glob)
    return [piece.path.removeprefix(f"{root}/") for piece in list_pieces(source)]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("**/*.txt", ["a/c.txt", "a/d/e.txt", "b.txt"]),
        ("*.txt", ["b.txt"]),
        ("*/*.txt", ["a/c.txt"]),
        ("a/**/*.txt", ["a/c.txt", "a/d/e.txt"]),
        ("a/**", ["a/c.txt", "a/d/e.txt", "a/f.md"]),
        ("**/[ce].txt", ["a/c.txt", "a/d/e.txt"]),
        ("**/[!ce].txt", ["b.txt"]),
        ("**/?.md", ["a/f.md"]),
        ("**/.h.txt", ["a/.h.txt"]),
        (".hidden/*.txt", [".hidden/g.txt"]),
    ],
)
def test_globs_mean_what_they_do_in_a_shell(corpus: Path, glob: str, expected: list[str]) -> None:
    assert names(corpus, glob) == expected


@given(name=st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1))
def test_a_name_without_wildcards_matches_itself_alone(name: str) -> None:
    if name in (".", "..") or set(name) & set("*?["):
        return
    assert glob_pattern(name).fullmatch(name)
    assert not glob_pattern(name).fullmatch(name + "x")
    assert glob_pattern(f"**/{name}").fullmatch(f"some/folder/{name}")


def test_pieces_carry_size_and_time(corpus: Path) -> None:
    piece = list_pieces(TextSource(path=str(corpus), glob="b.txt"))[0]
    status = (corpus / "b.txt").stat()
    assert piece == Piece(str(corpus / "b.txt"), status.st_size, status.st_mtime_ns)


def test_a_single_file_is_a_source(corpus: Path) -> None:
    source = CsvSource(path=str(corpus / "a/f.md"))
    assert [piece.path for piece in list_pieces(source)] == [str(corpus / "a/f.md")]


def test_relative_paths_and_uris(corpus: Path) -> None:
    relative = list_pieces(TextSource(path="corpus"), base_dir=corpus.parent)
    by_uri = list_pieces(TextSource(path=f"file://{corpus}"))
    assert relative == by_uri == list_pieces(TextSource(path=str(corpus)))


def test_links_that_lead_back_end(corpus: Path) -> None:
    (corpus / "a" / "loop").symlink_to(corpus)
    assert names(corpus, "**/*.txt") == ["a/c.txt", "a/d/e.txt", "b.txt"]


def test_pipes_are_not_read(corpus: Path) -> None:
    os.mkfifo(corpus / "pipe.txt")
    assert names(corpus, "*.txt") == ["b.txt"]


def test_the_standard_library_is_there_without_its_tests() -> None:
    pieces = list_pieces(TextSource(path="python:stdlib", glob="**/*.py"))
    paths = [piece.path for piece in pieces]
    assert len(paths) > 300
    assert any(path.endswith("/json/decoder.py") for path in paths)
    for part in ("/test/", "/tests/", "/idle_test/", "/site-packages/", "/__pycache__/"):
        assert not any(part in path for path in paths)
    assert paths == sorted(paths)


def test_a_missing_path_names_its_neighbour(corpus: Path) -> None:
    with pytest.raises(PlanError) as caught:
        list_pieces(TextSource(path=str(corpus.parent / "corpsu")))
    problem = caught.value.problems[0]
    assert problem.where == "data.source.path"
    assert "there is no file or folder" in problem.what
    assert problem.works == str(corpus)


def test_no_match_counts_what_is_there(corpus: Path) -> None:
    with pytest.raises(PlanError) as caught:
        list_pieces(JsonlSource(path=str(corpus)))
    problem = caught.value.problems[0]
    assert problem.where == "data.source.glob"
    assert "no files match '**/*.jsonl'" in problem.what
    assert "× .txt" in problem.arithmetic
    assert problem.works == "'**/*.txt'"


def test_an_unknown_scheme_is_a_plan_problem() -> None:
    with pytest.raises(PlanError, match=r"data\.source\.path"):
        list_pieces(TextSource(path="gopher://x/y"))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 10**7), min_size=1, max_size=60), shards=st.integers(1, 20))
def test_groups_are_contiguous_complete_and_balanced(sizes: list[int], shards: int) -> None:
    pieces = [Piece(f"{i:03}", size, 0) for i, size in enumerate(sizes)]
    groups = group_pieces(pieces, shards)
    assert [piece for group in groups for piece in group] == pieces
    assert len(groups) <= shards
    assert all(groups)
    share = (sum(sizes) + 4096 * len(sizes)) / shards
    for group in groups:
        assert sum(piece.size_bytes for piece in group) <= share + max(sizes) + 4096


def test_equal_files_fill_all_groups() -> None:
    pieces = [Piece(str(i), 1000, 0) for i in range(16)]
    assert [len(group) for group in group_pieces(pieces, 8)] == [2] * 8
    assert group_pieces([], 8) == []
    with pytest.raises(ValueError, match="at least 1 shard"):
        group_pieces(pieces, 0)
