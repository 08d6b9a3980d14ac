"""What runs inside a data task: one group of files, or one stretch of rows, becomes one shard.

Every fresh task process imports this module, so it imports neither torch nor Ray Train.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data.block import BlockAccessor

from orchestrator.feed.build import ShardResult, build_shard, build_shard_from_rows
from orchestrator.feed.pieces import Piece
from orchestrator.job import Job
from orchestrator.job_import import add_working_directory, concealer_of, load_job, user_traceback
from orchestrator.plan.data import PythonSource
from orchestrator.plan.plan import Plan
from orchestrator.runtime.labelled import Whose, labelled
from orchestrator.storage import Storage


@dataclass(frozen=True)
class Errand:
    """What every data task needs; picklable."""

    plan: Plan
    attempt: int
    store_uri: str
    working_directory: str
    stretches: tuple[tuple[tuple[Any, int, int], ...], ...] = ()

    @contextlib.contextmanager
    def prepared(self, shard: int) -> Iterator[tuple[Job, Storage]]:
        """The Job and the store's folder, as this process sees them; what the block says is said
        in the name of the task that builds ``shard``."""
        whose = Whose(self.plan.name, self.attempt, "data", shard)
        with labelled(whose, concealer_of(self.plan)):
            if Path(self.working_directory).is_dir():
                add_working_directory(self.working_directory)
            yield load_job(self.plan), Storage.open(self.store_uri)

    def shard_files(self, row: dict[str, Any]) -> dict[str, bytes]:
        """One data task: one group of files, one shard."""
        source = self.plan.data.source
        assert not isinstance(source, PythonSource)
        pieces = [Piece(*piece) for piece in json.loads(row["group"])]
        with self.prepared(row["shard"]) as (job, storage):
            return self._result_of(lambda: build_shard(source, pieces, job, storage))

    def shard_rows(self, row: dict[str, Any]) -> dict[str, bytes]:
        """One data task: one stretch of the dataset's rows, one shard."""
        with self.prepared(row["shard"]) as (job, storage):
            parts = [
                BlockAccessor.for_block(ray.get(reference)).to_arrow().slice(start, stop - start)
                for reference, start, stop in self.stretches[row["shard"]]
            ]
            table = pa.concat_tables(parts)
            return self._result_of(lambda: build_shard_from_rows(table, job, storage))

    def _result_of(self, build: Callable[[], ShardResult]) -> dict[str, bytes]:
        """The pickled result, or the user's exception as a value: Ray Data would retry the task.

        Pickled here because Ray Data stores columns, not objects.
        """
        conceal = concealer_of(self.plan)
        result: ShardResult | UserError
        try:
            result = build()
        except MemoryError:
            raise
        except OSError as error:
            said = f"{type(error).__name__}: {error}"
            if conceal(said) == said:
                raise
            raise OSError(conceal(said)) from None
        except Exception as error:
            if type(error).__module__.startswith("orchestrator."):
                raise
            said = conceal(f"{type(error).__name__}: {error}")
            result = UserError(said, conceal(user_traceback(error)))
        return {"result": pickle.dumps(result)}


@dataclass(frozen=True)
class UserError:
    """An exception of the Job's own code, carried back as data so that no task is retried."""

    message: str
    traceback: str
