"""How does a source file become rows? Streamed, and refused as a whole when it is corrupt.

Knows file formats; does not know what a Job makes of a row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pyarrow import fs

from orchestrator.errors import AxisError, StorageError
from orchestrator.feed.manifest import BadFile
from orchestrator.feed.pieces import FileSource, Piece, source_root
from orchestrator.feed.rows import table_rows
from orchestrator.job import Row
from orchestrator.plan.data import CsvSource, JsonlSource, ParquetSource, TextSource
from orchestrator.storage.failures import reason_of

CSV_BLOCK_BYTES = 32 << 20
"""A CSV file's column types are inferred from its first so many bytes."""
_LINE_BUFFER_BYTES = 1 << 20
_PARQUET_ROWS = 4096


class BadFileError(AxisError):
    """A source file cannot be read to its end; ``bad`` names it and says why."""

    def __init__(self, path: str, reason: str) -> None:
        self.bad = BadFile(path, reason)
        super().__init__(f"{path}: {reason}")


def read_piece(source: FileSource, piece: Piece) -> Iterator[Row]:
    """The rows of one file, streamed; an empty file has none.

    Raises ``BadFileError`` when the file turns out to be corrupt, which can be after rows were
    handed out, and ``StorageError`` when remote storage itself cannot be read.
    """
    if piece.size_bytes == 0:
        return
    filesystem = _filesystem(source)
    try:
        yield from _rows(source, filesystem, piece.path)
    except BadFileError:
        raise
    except (OSError, EOFError, ValueError, RecursionError, pa.ArrowException) as exc:
        _check_reachable(filesystem, piece.path)
        raise BadFileError(piece.path, reason_of(exc)) from exc


@lru_cache(maxsize=8)
def _filesystem(source: FileSource) -> Any:
    # Opening an object store asks the network; a task reads thousands of files of one source.
    return source_root(source)[0]


def _rows(source: FileSource, filesystem: Any, path: str) -> Iterator[Row]:
    if isinstance(source, TextSource):
        return _text_rows(source, filesystem, path)
    if isinstance(source, JsonlSource):
        return _jsonl_rows(filesystem, path)
    if isinstance(source, CsvSource):
        return _csv_rows(source, filesystem, path)
    return _parquet_rows(source, filesystem, path)


def _text_rows(source: TextSource, filesystem: Any, path: str) -> Iterator[Row]:
    with filesystem.open_input_stream(path) as file:
        data = file.read()
    try:
        text = data.decode(source.encoding)
    except UnicodeDecodeError as exc:
        byte = f"byte 0x{data[exc.start]:02x} at offset {exc.start}"
        raise BadFileError(path, f"is not {source.encoding}: {byte}") from exc
    yield {"path": path, "text": text}


def _jsonl_rows(filesystem: Any, path: str) -> Iterator[Row]:
    with filesystem.open_input_stream(path) as file:
        lines = io.BufferedReader(file, _LINE_BUFFER_BYTES)
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as exc:
                raise BadFileError(path, f"line {number} is not JSON: {reason_of(exc)}") from exc
            if not isinstance(row, dict):
                found = type(row).__name__
                raise BadFileError(path, f"line {number} is a {found}, not a JSON object")
            yield row


def _csv_rows(source: CsvSource, filesystem: Any, path: str) -> Iterator[Row]:
    # Without threads, so that messages name the row.
    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES)
    parsing = pyarrow.csv.ParseOptions(delimiter=source.delimiter, newlines_in_values=True)
    with (
        filesystem.open_input_stream(path) as file,
        pyarrow.csv.open_csv(file, read_options=reading, parse_options=parsing) as batches,
    ):
        for field in batches.schema:
            if pa.types.is_binary(field.type):
                raise BadFileError(path, f"column {field.name!r} is not UTF-8")
        for batch in batches:
            yield from table_rows(batch)


def _parquet_rows(source: ParquetSource, filesystem: Any, path: str) -> Iterator[Row]:
    with filesystem.open_input_file(path) as file:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        wanted = list(source.columns) if source.columns is not None else names
        missing = [name for name in wanted if name not in names]
        if missing:
            has = ", ".join(names)
            raise BadFileError(path, f"has no column {', '.join(missing)}; its columns are {has}")
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=wanted):
            yield from table_rows(batch)


def _check_reachable(filesystem: Any, path: str) -> None:
    """A network that is down must not empty the corpus file by file."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return
    try:
        with filesystem.open_input_stream(path, compression=None) as file:
            file.read(1)
    except (FileNotFoundError, PermissionError):
        return
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(f"cannot read {path}: {reason_of(exc)}") from exc
