"""How does a source become a sample store on Ray Data, inside the reservation?

Files are dealt out in contiguous groups, one data task and one shard each, so that the
store's content is the same however many tasks run at once. A dataset of the user's own is
cut into as many shards in its own order. A store that is there already is used again.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray.data
from ray.data import TaskPoolStrategy

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.state import BadFile, StoreRecord
from orchestrator.errors import InfeasibleError, JobError, PlanError, Problem
from orchestrator.feed.build import ShardResult
from orchestrator.feed.corpus import build_manifest, check_bad_files
from orchestrator.feed.keys import (
    code_hash,
    job_code_hash,
    listing_hash,
    store_folder,
    store_key,
)
from orchestrator.feed.manifest import StoreManifest
from orchestrator.feed.pieces import Piece, group_pieces, list_pieces
from orchestrator.feed.write import commit_store, sweep_store, whole_manifest
from orchestrator.job_import import concealer_of, import_target, load_job, user_traceback
from orchestrator.plan.data import PythonSource, Source
from orchestrator.plan.dump import plan_hash
from orchestrator.plan.plan import Plan
from orchestrator.runtime.data_task import Errand, UserError
from orchestrator.runtime.internals.data import blocks_of, data_context, is_materialized
from orchestrator.secret import resolve_all
from orchestrator.storage import Storage, redact_uri

_NAMED_BAD_FILES = 20
_PATIENCE_SECONDS = 2.0
_READ_CPUS = 1.0
"""What a task of Ray Data's own takes where nobody says otherwise."""


@dataclass(frozen=True)
class Progress:
    """How far sharding is: shards done of all, and source bytes read so far."""

    done: int
    total: int
    num_bytes: int


class Sharding:
    """Builds the sample store of one run, or finds it; can be cancelled from another thread."""

    def __init__(
        self,
        plan: Plan,
        base: Storage,
        pinned: StoreRecord | None,
        reservation: tuple[Assignment, Any],
        on_progress: Callable[[Progress], None],
        attempt: int,
    ) -> None:
        self._plan, self._attempt = plan, attempt
        self._base = base
        self._pinned = pinned
        assignment, self._group = reservation
        self._gang = assignment.gang
        self._on_progress = on_progress
        self._cancelled = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def build(self) -> StoreRecord | None:
        """The store, built now or found complete; ``None`` when cancelled meanwhile.

        A run that has a store keeps it: a position in the order of samples means nothing in
        another one. Raises ``PlanError`` for an empty or too damaged corpus, ``JobError`` when
        the Job's code raises, ``InfeasibleError`` when tasks cannot fit the reservation.
        """
        self._idle.clear()
        try:
            return self._found(self._pinned) or self._built()
        except Exception:
            if self._cancelled.is_set():
                return None  # its tasks lost the ground they stood on, as was asked for
            raise
        finally:
            self._idle.set()

    def cancel(self, timeout_seconds: float) -> None:
        """Stop after the shard under way, if that is soon.

        Shards that take longer end with the reservation, which kills what runs inside; an
        unfinished shard was never part of a store.
        """
        self._cancelled.set()
        self._idle.wait(min(timeout_seconds, _PATIENCE_SECONDS))

    def _found(self, pinned: StoreRecord | None) -> StoreRecord | None:
        if pinned is None:
            return None
        manifest = whole_manifest(Storage.open(pinned.folder), pinned.key)
        return _record(manifest, pinned.folder, reused=True) if manifest else None

    def _built(self) -> StoreRecord | None:
        job, data = load_job(self._plan), self._plan.data
        code, pieces, groups = job_code_hash(job), [], []
        if isinstance(data.source, PythonSource):
            listing = code_hash(import_target(data.source.target, "data.source.target"))
        else:
            pieces = list_pieces(data.source)
            groups = group_pieces(pieces, data.shards)
            listing = listing_hash(pieces)
        key = store_key(data, self._plan.job, self._plan.options, code, listing)
        folder = store_folder(self._base, key)
        manifest = whole_manifest(folder, key)
        if manifest is not None:
            check_bad_files(manifest.bad_files, len(pieces), data.max_bad_files)
            return _record(manifest, folder.uri, reused=True)
        errand = Errand(self._plan, self._attempt, folder.uri, str(Path.cwd()))
        results = self._collect(errand, groups)
        if results is None:
            return None
        manifest = build_manifest(
            results,
            key=key,
            plan_hash=plan_hash(self._plan),
            code_hash=code,
            source=_described(data.source),
            num_files=len(pieces),
            max_bad_files=data.max_bad_files,
        )
        kept = commit_store(folder, manifest)
        sweep_store(folder)
        return _record(kept, folder.uri, reused=False)

    def _collect(self, errand: Errand, groups: list[list[Piece]]) -> list[ShardResult] | None:
        results: list[ShardResult] = []
        with ray.data.DataContext.current(data_context(self._group)):
            dataset, total = self._dataset(errand, groups)
            num_bytes = 0
            self._on_progress(Progress(0, total, 0))
            for result in _results(dataset):
                if self._cancelled.is_set():
                    return None
                results.append(result)
                num_bytes += result.num_bytes_read
                self._on_progress(Progress(len(results), max(total, len(results)), num_bytes))
        return results

    def _dataset(self, errand: Errand, groups: list[list[Piece]]) -> tuple[Any, int]:
        """The lazy dataset whose rows are shard results, and how many there will be."""
        data = self._plan.data
        source = data.source
        cpus = data.resources.cpu
        if not isinstance(source, PythonSource):
            rows = [
                {"shard": index, "group": json.dumps([astuple(piece) for piece in group])}
                for index, group in enumerate(groups)
            ]
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
            return dataset.map(
                errand.shard_files, num_cpus=cpus, compute=_pool(data.tasks, len(rows))
            ), len(rows)
        stretches = cut(blocks_of(self._materialized(source)), data.shards)
        if not stretches:
            raise PlanError([Problem("data.source", f"{source.target} has no rows")])
        errand = replace(errand, stretches=stretches)
        items = [{"shard": index} for index in range(len(stretches))]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        return dataset.map(
            errand.shard_rows, num_cpus=cpus, compute=_pool(data.tasks, len(items))
        ), len(items)

    def _materialized(self, source: PythonSource) -> Any:
        make = import_target(source.target, "data.source.target")
        try:
            dataset = make(**resolve_all(source.arguments))
        except Exception as error:
            conceal = concealer_of(self._plan)
            what = conceal(f"{source.target} raised {error!r}")
            problem = Problem("data.source.target", what)
            raise JobError(problem, conceal(user_traceback(error))) from None
        if not isinstance(dataset, ray.data.Dataset):
            found = type(dataset).__name__
            problem = Problem(
                "data.source.target", f"{source.target} returned a {found}, not a Ray Dataset"
            )
            raise JobError(problem)
        if is_materialized(dataset):
            return dataset
        largest = max(bundle.get("CPU", 0.0) for bundle in self._gang.bundles)
        if largest < _READ_CPUS:
            raise InfeasibleError(
                f"data.resources.cpu: the dataset of {source.target} runs tasks of its own, and "
                f"Ray Data gives each {_READ_CPUS:g} CPU; the largest bundle has {largest:g}\n"
                "  works: data.resources.cpu=1"
            )
        return dataset.materialize()


def cut(
    blocks: Sequence[tuple[Any, int]], shards: int
) -> tuple[tuple[tuple[Any, int, int], ...], ...]:
    """Cut rows that lie in ``blocks`` (reference, rows) into at most ``shards`` equal stretches.

    A stretch is a sequence of ``(reference, first row, end row)``; sizes differ by one row at
    most, order is kept, and no stretch is empty.
    """
    total = sum(rows for _, rows in blocks)
    count = min(shards, total)
    bounds = [total * index // count for index in range(count + 1)] if count else []
    stretches = []
    for low, high in pairwise(bounds):
        parts, before = [], 0
        for reference, rows in blocks:
            start, stop = max(low - before, 0), min(high - before, rows)
            if start < stop:
                parts.append((reference, start, stop))
            before += rows
        stretches.append(tuple(parts))
    return tuple(stretches)


def _pool(tasks: int, inputs: int) -> TaskPoolStrategy:
    """At most ``tasks`` at a time; Ray Data warns of more than there are inputs."""
    return TaskPoolStrategy(size=min(tasks, inputs))


def _results(dataset: Any) -> Iterator[ShardResult]:
    for row in dataset.iter_rows():
        result = pickle.loads(row["result"])
        if isinstance(result, UserError):
            problem = Problem("job", f"samples() raised {result.message}")
            raise JobError(problem, user_traceback=result.traceback)
        yield result


def _described(source: Source) -> dict[str, Any]:
    """The source for people, without credentials that a URI may carry."""
    fields: dict[str, Any] = source.model_dump(mode="json")
    return {**fields, "path": redact_uri(fields["path"])} if "path" in fields else fields


def _record(manifest: StoreManifest, uri: str, reused: bool) -> StoreRecord:
    return StoreRecord(
        key=manifest.key,
        content_hash=manifest.content_hash,
        num_samples=manifest.num_samples,
        num_shards=len(manifest.shards),
        size_bytes=manifest.size_bytes,
        reused=reused,
        folder=uri,
        num_bad_files=len(manifest.bad_files),
        bad_files=tuple(
            BadFile(path=bad.path, reason=bad.reason)
            for bad in manifest.bad_files[:_NAMED_BAD_FILES]
        ),
    )
