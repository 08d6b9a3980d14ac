"""``python -m benchmarks.sharding_host PLAN ADDRESS FOLDER REPETITIONS``: shards, in turn.

Connects to a cluster, shards the plan's source with the orchestrator and with the hand-written
pipelines, deletes what was made, and prints one line of JSON per measurement.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.by_hand import sharding_pipeline
from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.placement import choose_gang
from orchestrator.feed.pieces import FileSource, list_pieces
from orchestrator.job_import import load_job
from orchestrator.plan.load import load_plan
from orchestrator.plan.plan import Plan
from orchestrator.runtime.cluster import connect, live_nodes
from orchestrator.storage import Storage


class Source:
    """What is sharded: the same files for all."""

    def __init__(self, plan: Plan) -> None:
        source = plan.data.source
        assert isinstance(source, FileSource)
        pieces = list_pieces(source)
        self.plan, self.job = plan, load_job(plan)
        # The orchestrator passes over empty files as well.
        self.paths = [piece.path for piece in pieces if piece.size_bytes]
        self.num_bytes = sum(piece.size_bytes for piece in pieces)


def axis(source: Source, folder: Path) -> int:
    """The orchestrator's sharding inside a reservation; returns the number of samples."""
    from orchestrator.runtime.sharding import Sharding  # imported before the clock starts

    base = Storage.open(str(folder))
    record = Sharding(source.plan, base, None, _RESERVATION[0], lambda _progress: None, 1).build()
    assert record is not None
    assert not record.reused
    return record.num_samples


def arrow(source: Source, folder: Path) -> int:
    """By hand, Arrow IPC."""
    data = source.plan.data
    return sharding_pipeline.write_arrow(
        source.paths, source.job, str(folder / "store"), data.tasks, data.shards
    )


def parquet(source: Source, folder: Path) -> int:
    """By hand, Parquet."""
    import pyarrow.dataset

    data = source.plan.data
    target = str(folder / "store")
    sharding_pipeline.write_parquet(source.paths, source.job, target, data.tasks, data.shards)
    return int(pyarrow.dataset.dataset(target).count_rows())


_RESERVATION: list[tuple[Assignment, Any]] = []
CONTENDERS: dict[str, Callable[[Source, Path], int]] = {
    "axis": axis,
    "arrow": arrow,
    "parquet": parquet,
}


def main() -> None:
    """Measure every contender ``REPETITIONS`` times, or the one that is named once."""
    path, address, folder, repetitions, *only = sys.argv[1:]
    plan = load_plan(path).plan
    with connect(address, None):
        import ray.data

        import orchestrator.runtime.sharding  # noqa: F401 - the driver's import is no part of it
        from orchestrator.runtime import gang as gangs

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        source = Source(plan)
        assignment = choose_gang(plan, live_nodes(), [plan.training.workers.max]).assignment
        assert assignment is not None, "the benchmark's cluster is its own"
        _RESERVATION.append((assignment, gangs.place("benchmark", assignment, "PACK", 60.0)))
        try:
            for turn in range(int(repetitions)):
                names = only or list(CONTENDERS)
                for name in names if turn % 2 == 0 else reversed(names):
                    print(json.dumps(_timed(name, source, Path(folder))), flush=True)
        finally:
            gangs.release("benchmark")


def _timed(name: str, source: Source, parent: Path) -> dict[str, Any]:
    folder = parent / f"sharding-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    num_samples = CONTENDERS[name](source, folder)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return {
        "name": name,
        "seconds": seconds,
        "num_bytes": source.num_bytes,
        "num_samples": num_samples,
    }


if __name__ == "__main__":
    main()
