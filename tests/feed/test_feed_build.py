"""From source files to a committed store: good rows in, bad files out, user errors through."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import JobError, PlanError
from orchestrator.feed.build import ShardResult, build_shard, build_shard_from_rows
from orchestrator.feed.corpus import build_manifest
from orchestrator.feed.keys import code_hash, job_code_hash, listing_hash, store_key
from orchestrator.feed.manifest import BadFile
from orchestrator.feed.pieces import FileSource, Piece, list_pieces
from orchestrator.feed.readers import read_piece
from orchestrator.feed.rows import table_rows
from orchestrator.feed.store import SampleStore
from orchestrator.feed.write import commit_store
from orchestrator.job import Job
from orchestrator.plan.data import CsvSource, Data, JsonlSource, ParquetSource, TextSource
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


def rows_of(source: FileSource) -> list[Mapping[str, Any]]:
    return [row for piece in list_pieces(source) for row in read_piece(source, piece)]


def build(source: FileSource, job: Job, storage: Storage) -> ShardResult:
    return build_shard(source, list_pieces(source), job, storage)


def stored(result: ShardResult, storage: Storage, num_files: int = 1) -> dict[str, np.ndarray]:
    manifest = build_manifest(
        [result], key="k", plan_hash="p", code_hash="c", source={}, num_files=num_files
    )
    commit_store(storage, manifest)
    store = SampleStore.open(storage, verify="sha256")
    return store.take(np.arange(store.num_samples))


def test_text_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("één\r\n")
    (tmp_path / "empty.txt").write_text("")
    expected = [{"path": str(tmp_path / "a.txt"), "text": "één\r\n"}]
    assert rows_of(TextSource(path=str(tmp_path))) == expected


def test_jsonl_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"n": 1, "l": [1]}\n\n  \n{"n": 2}')
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"n": 3}\n'))
    source = JsonlSource(path=str(tmp_path), glob="*.jsonl*")
    assert rows_of(source) == [{"n": 1, "l": [1]}, {"n": 2}, {"n": 3}]


def test_csv_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('n;t;x\n1;"a\nb";0.5\n2;c;\n')
    (tmp_path / "b.csv").write_text("n;t;x\n")
    (tmp_path / "c.csv").write_text("")
    source = CsvSource(path=str(tmp_path), delimiter=";")
    assert rows_of(source) == [{"n": 1, "t": "a\nb", "x": 0.5}, {"n": 2, "t": "c", "x": None}]


def test_parquet_rows_keep_number_lists_as_arrays(tmp_path: Path) -> None:
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
    table = pa.table(
        {"n": [1, 2, 3], "fixed": fixed, "list": [[1], [], [2, 3]], "text": [["a"], None, []]}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows = rows_of(ParquetSource(path=str(tmp_path)))
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert [row["fixed"].tolist() for row in rows] == [[0, 1], [2, 3], [4, 5]]
    assert rows[0]["fixed"].dtype == np.float32
    assert [row["list"].tolist() for row in rows] == [[1], [], [2, 3]]
    assert [row["text"] for row in rows] == [["a"], None, []]
    some = rows_of(ParquetSource(path=str(tmp_path), columns=("n",)))
    assert some == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_lists_with_holes_stay_python_lists() -> None:
    table = pa.table({"l": pa.array([[1, None], None, [2]]), "n": [1, 2, 3]}).slice(0, 3)
    assert [row["l"] for row in table_rows(table)] == [[1, None], None, [2]]


def test_sliced_tables_and_tensors_keep_their_rows() -> None:
    grids = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    table = pa.table(
        {
            "grid": pa.FixedShapeTensorArray.from_numpy_ndarray(grids),
            "list": [[0], [1, 1], [], [3]],
            "fixed": pa.FixedSizeListArray.from_arrays(pa.array(range(8)), 2),
        }
    )
    rows = list(table_rows(table.slice(1, 2)))
    assert [row["grid"].tolist() for row in rows] == grids[1:3].tolist()
    assert [row["list"].tolist() for row in rows] == [[1, 1], []]
    assert [row["fixed"].tolist() for row in rows] == [[2, 3], [4, 5]]


GOOD = {
    "jsonl": b'{"n": 1}\n{"n": 2}\n',
    "csv": b"n,x\n1,2\n2,2\n",
}


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": list(range(20_000))}), sink, row_group_size=1000)
    return sink.getvalue().to_pybytes()


def damaged_page(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 2000 + data[middle + 2000 :]


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("txt", b"ok \xff\xfe", "is not utf-8: byte 0xff at offset 3"),
        ("jsonl", b'{"n": 1}\n{"n": 2\n', "line 2 is not JSON"),
        ("jsonl", b'{"n": 1}\n[1]\n', "line 2 is a list, not a JSON object"),
        ("jsonl", b'{"n": "\xff"}\n', "line 1 is not JSON"),
        ("jsonl", b'{"n": 1}\n' + b"[" * 200_000, "line 2 is not JSON"),
        ("csv", b"n,x\n1,2\n3,4,5\n", "Row #3: Expected 2 columns, got 3"),
        ("csv", b"n,x\n1,\xff\n", "column 'x' is not UTF-8"),
        ("parquet", parquet_bytes()[:-1000], "Parquet magic bytes not found"),
        ("parquet", damaged_page(parquet_bytes()), ""),
        ("parquet", b"not parquet at all", "Parquet magic bytes not found"),
    ],
)
def test_corrupt_files_are_named_and_leave_no_sample(
    tmp_path: Path, storage: Storage, kind: str, content: bytes, reason: str
) -> None:
    class Counter(Job):
        def samples(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
            yield {"n": 7 if "good" in str(row.get("text", "")) else int(row.get("n", 0)) + 7}

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    good = parquet_bytes() if kind == "parquet" else GOOD.get(kind, b"good")
    (corpus / f"a.{kind}").write_bytes(good)
    (corpus / f"b.{kind}").write_bytes(content)
    (corpus / f"c.{kind}").write_bytes(good)
    kinds = {"txt": TextSource, "jsonl": JsonlSource, "csv": CsvSource, "parquet": ParquetSource}
    source = kinds[kind](path=str(corpus))
    result = build(source, Counter(), storage)
    assert [bad.path for bad in result.bad_files] == [str(corpus / f"b.{kind}")]
    assert reason in result.bad_files[0].reason
    assert result.num_bytes_read == 2 * len(good)
    twice = stored(result, storage, 3)["n"].reshape(2, -1)
    assert np.array_equal(twice[0], twice[1])
    assert result.num_rows_read == twice.size


def test_a_vanished_file_is_bad(tmp_path: Path, storage: Storage, line_job: Job) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD["jsonl"])
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "nothing")
    result = build(JsonlSource(path=str(tmp_path)), line_job, storage)
    assert result.bad_files == (BadFile(str(tmp_path / "b.jsonl"), "No such file or directory"),)
    assert result.num_rows_read == 2


def test_missing_parquet_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    source = ParquetSource(path=str(tmp_path), columns=("n", "m"))
    with pytest.raises(Exception, match="has no column m; its columns are n"):
        rows_of(source)


class Failing(Job):
    def samples(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        if row["n"] == 2:
            raise KeyError("mine")


def test_the_users_own_exception_comes_through_with_a_note(
    tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD["jsonl"])
    with pytest.raises(KeyError, match="mine") as caught:
        build(JsonlSource(path=str(tmp_path)), Failing(), storage)
    assert caught.value.__notes__ == [f"in Failing.samples, row 2 of {tmp_path / 'a.jsonl'}"]
    assert caught.traceback[-1].name == "samples"
    assert storage.list() == []
    with pytest.raises(KeyError) as caught:
        build_shard_from_rows([{"n": 2}], Failing(), storage)
    assert caught.value.__notes__ == ["in Failing.samples, row 1 of the dataset"]


def test_a_sample_that_cannot_be_stored_is_the_users_error(storage: Storage) -> None:
    class Texts(Job):
        def samples(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
            yield {"text": "no"}

    with pytest.raises(TypeError, match=r"sample\['text'\] is a str") as caught:
        build_shard_from_rows([{"n": 1}], Texts(), storage)
    assert caught.value.__notes__ == ["in Texts.samples, row 1 of the dataset"]


def test_rows_and_tables_give_the_same_shard(storage: Storage, line_job: Job) -> None:
    table = pa.table({"n": range(1000)})
    from_table = build_shard_from_rows(table, line_job, storage)
    from_rows = build_shard_from_rows(table.to_pylist(), line_job, storage)
    assert from_table.shard == from_rows.shard
    assert from_table.num_rows_read == 1000
    taken = stored(from_table, storage)
    assert np.array_equal(taken["pair"], np.stack([np.arange(1000), 2 * np.arange(1000)], 1))
    assert taken["even"].dtype == np.bool_


def test_the_same_files_give_the_same_content(tmp_path: Path, line_job: Job) -> None:
    lines = "".join(json.dumps({"n": n}) + "\n" for n in range(50))
    for name in "abcd":
        (tmp_path / f"{name}.jsonl").write_text(lines)
    source = JsonlSource(path=str(tmp_path))
    shards = [build(source, line_job, Storage.open(str(tmp_path / s))).shard for s in ("x", "y")]
    assert shards[0] == shards[1]


def manifest_of(results: list[ShardResult], **options: Any) -> Any:
    given = {"key": "k", "plan_hash": "p", "code_hash": "c", "source": {}, **options}
    return build_manifest(results, **given)


def test_an_empty_corpus_is_refused_with_counts() -> None:
    bad = (BadFile("x", "torn"), BadFile("y", "torn"))
    with pytest.raises(PlanError, match=r"(?s)not one file can be read.*x: torn.*2 files: 2 bad"):
        manifest_of([ShardResult(None, (), bad, 0, 0)], num_files=2)
    with pytest.raises(PlanError, match=r"(?s)made no samples.*1 bad, 2 good with 5 rows"):
        manifest_of([ShardResult(None, (), bad[:1], 5, 9)], num_files=3)
    with pytest.raises(PlanError, match="the source has no rows"):
        manifest_of([], num_files=0)


def test_too_many_bad_files_are_refused_with_names(storage: Storage, line_job: Job) -> None:
    good = build_shard_from_rows([{"n": 1}], line_job, storage)
    bad = tuple(BadFile(f"file-{n}", "torn") for n in range(7))
    result = ShardResult(good.shard, good.columns, bad, 1, 1)
    assert manifest_of([result], num_files=9).bad_files == bad
    assert manifest_of([result], num_files=9, max_bad_files=7).bad_files == bad
    with pytest.raises(PlanError) as caught:
        manifest_of([result], num_files=9, max_bad_files=3)
    text = str(caught.value)
    assert "7 of 9 files" in text
    assert "7 bad files > max_bad_files 3" in text
    assert "file-4: torn" in text
    assert "and 2 more" in text


def test_shards_of_different_form_are_refused(storage: Storage, line_job: Job) -> None:
    class Other(Job):
        def samples(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
            yield {"n": 0.5}

    results = [build_shard_from_rows([{"n": 1}], job, storage) for job in (line_job, Other())]
    with pytest.raises(JobError, match=r"shard 1 has even bool.*; shard 2 has n float64"):
        manifest_of(results, num_files=2)


def test_keys_follow_what_decides_the_samples() -> None:
    data = Data(source=TextSource(path="x"))
    base = store_key(data, "m:J", {"a": 1}, "code", "listing")
    same = data.model_copy(update={"holdout": 0.5, "tasks": 7, "max_bad_files": 3})
    assert store_key(same, "m:J", {"a": 1}, "code", "listing") == base
    others = [
        store_key(data.model_copy(update={"shards": 9}), "m:J", {"a": 1}, "code", "listing"),
        store_key(Data(source=TextSource(path="y")), "m:J", {"a": 1}, "code", "listing"),
        store_key(data, "m:K", {"a": 1}, "code", "listing"),
        store_key(data, "m:J", {"a": 2}, "code", "listing"),
        store_key(data, "m:J", {"a": 1}, "edoc", "listing"),
        store_key(data, "m:J", {"a": 1}, "code", "other"),
    ]
    assert len({base, *others}) == 7


def test_listings_and_code_are_fingerprinted(line_job: Job) -> None:
    piece = Piece("a", 1, 2)
    hashes = {listing_hash(p) for p in ([], [piece], [Piece("a", 1, 3)], [Piece("a", 2, 2)])}
    assert len(hashes) == 4

    # The Job's own module counts, and that of the classes it derives from.
    class Derived(type(line_job)):  # type: ignore[misc]
        pass

    assert job_code_hash(line_job) == code_hash(type(line_job))
    assert job_code_hash(Derived) == code_hash(type(line_job), Failing)
    assert job_code_hash(Derived) != job_code_hash(line_job)
    made: dict[str, Any] = {"__name__": "nowhere", "Job": Job}
    exec("class Made(Job): pass", made)
    with pytest.raises(ValueError, match="Made has no source file"):
        job_code_hash(made["Made"])
