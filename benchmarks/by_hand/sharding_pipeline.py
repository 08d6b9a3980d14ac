"""The sharding pipeline one would write by hand in Ray Data: read, cut into samples, write.

Two pipelines: one that writes with Ray Data's own ``write_parquet``, and one whose tasks write
Arrow IPC files, as the orchestrator's do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from pyarrow import ipc

from orchestrator import Job

Block = dict[str, Any]


def write_parquet(paths: list[str], job: Job, folder: str, tasks: int, shards: int) -> None:
    """``read_binary_files`` → ``map_batches`` → ``write_parquet``."""
    files = ray.data.read_binary_files(paths, include_paths=True, override_num_blocks=shards)
    files.map_batches(_cutter(job), batch_size=None, concurrency=tasks).write_parquet(
        folder, concurrency=tasks
    )


def write_arrow(paths: list[str], job: Job, folder: str, tasks: int, shards: int) -> int:
    """``read_binary_files`` → ``map_batches`` that write Arrow IPC; returns the samples written."""
    Path(folder).mkdir(parents=True)
    cut = _cutter(job)

    def write(block: Block) -> Block:
        tokens = cut(block)["tokens"]
        column = pa.FixedSizeListArray.from_arrays(tokens.reshape(-1), tokens.shape[1])
        batch = pa.record_batch({"tokens": column})
        name = uuid.uuid4().hex
        unfinished = Path(f"{folder}/{name}.tmp")
        with pa.OSFile(str(unfinished), "wb") as file, ipc.new_file(file, batch.schema) as f:
            f.write_batch(batch)
        unfinished.rename(f"{folder}/shard-{name}.arrow")
        return {"rows": np.array([len(tokens)])}

    files = ray.data.read_binary_files(paths, include_paths=True, override_num_blocks=shards)
    written = files.map_batches(write, batch_size=None, concurrency=tasks)
    return int(sum(row["rows"] for row in written.iter_rows()))


def _cutter(job: Job) -> Callable[[Block], Block]:
    def cut(block: Block) -> Block:
        windows = []
        for path, data in zip(block["path"], block["bytes"], strict=True):
            try:
                text = data.decode()
            except UnicodeDecodeError:
                continue
            windows += [sample["tokens"] for sample in job.samples({"path": path, "text": text})]
        return {"tokens": np.stack(windows)}

    return cut
