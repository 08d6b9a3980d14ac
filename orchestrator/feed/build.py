"""What does one data task do? It reads a group of files and writes one shard.

Pure but for its files: runs inside a Ray task, in a thread or in a test alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from orchestrator.errors import StorageError
from orchestrator.feed.columns import Column
from orchestrator.feed.manifest import BadFile, ShardInfo
from orchestrator.feed.pieces import FileSource, Piece
from orchestrator.feed.readers import BadFileError, read_piece
from orchestrator.feed.rows import table_rows
from orchestrator.feed.write import ShardWriter
from orchestrator.job import Job, Row
from orchestrator.storage import Storage


@dataclass(frozen=True)
class ShardResult:
    """What became of one group: its shard (``None``: no samples), and what was read.

    ``num_rows_read`` and ``num_bytes_read`` count good files only.
    """

    shard: ShardInfo | None
    columns: tuple[Column, ...]
    bad_files: tuple[BadFile, ...]
    num_rows_read: int
    num_bytes_read: int


def build_shard(
    source: FileSource, group: Sequence[Piece], job: Job, storage: Storage
) -> ShardResult:
    """Read the files of ``group`` in order and write the Job's samples as one shard.

    No sample of a corrupt file is kept; the file is named in the result. An exception of the
    Job's own code propagates with a note that names the file and row, and leaves nothing
    behind. Raises ``StorageError`` where the shard cannot be written.
    """
    writer = ShardWriter(storage)
    bad: list[BadFile] = []
    num_rows = num_bytes = 0
    try:
        for piece in group:
            writer.begin_file()
            try:
                num_rows += _add_rows(read_piece(source, piece), job, writer, piece.path)
            except BadFileError as exc:
                writer.drop_file()
                bad.append(exc.bad)
            else:
                num_bytes += piece.size_bytes
        shard = writer.finish()
    except BaseException:
        writer.abort()
        raise
    return ShardResult(shard, writer.columns, tuple(bad), num_rows, num_bytes)


def build_shard_from_rows(
    rows: Iterable[Row] | pa.Table | pa.RecordBatch,
    job: Job,
    storage: Storage,
    name: str = "the dataset",
) -> ShardResult:
    """Like ``build_shard``, for rows that are in memory: dicts, or an Arrow table.

    ``name`` stands for the file in the note on an exception of the Job's code.
    """
    num_bytes = 0
    if isinstance(rows, (pa.Table, pa.RecordBatch)):
        num_bytes, rows = rows.nbytes, table_rows(rows)
    writer = ShardWriter(storage)
    try:
        num_rows = _add_rows(rows, job, writer, name)
        shard = writer.finish()
    except BaseException:
        writer.abort()
        raise
    return ShardResult(shard, writer.columns, (), num_rows, num_bytes)


def _add_rows(rows: Iterable[Row], job: Job, writer: ShardWriter, name: str) -> int:
    num_rows = 0
    for row in rows:
        num_rows += 1
        try:
            for sample in job.samples(row):
                writer.add(sample)
        except StorageError:
            raise
        except Exception as exc:
            exc.add_note(f"in {type(job).__name__}.samples, row {num_rows} of {name}")
            raise
    return num_rows
