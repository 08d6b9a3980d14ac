"""Do the shards add up to a corpus? Too many bad files, none good, or shapes that differ.

Joins the results of the data tasks into a manifest, or says why not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import JobError, PlanError, Problem
from orchestrator.feed.build import ShardResult
from orchestrator.feed.columns import Column
from orchestrator.feed.manifest import BadFile, StoreManifest

_SHOWN = 5


def build_manifest(
    results: Sequence[ShardResult],
    *,
    key: str,
    plan_hash: str,
    code_hash: str,
    source: Mapping[str, Any],
    num_files: int,
    max_bad_files: int = -1,
) -> StoreManifest:
    """The manifest of a store whose shards are ``results``, in the order of their groups.

    Raises ``PlanError`` for more bad files than ``max_bad_files`` (-1: any number) and for an
    empty corpus, ``JobError`` where samples of different shards differ in form.
    """
    bad = tuple(file for result in results for file in result.bad_files)
    check_bad_files(bad, num_files, max_bad_files)
    shards = tuple(result.shard for result in results if result.shard is not None)
    num_rows = sum(result.num_rows_read for result in results)
    if not shards:
        raise PlanError([_empty(bad, num_files, num_rows)])
    return StoreManifest(
        key=key,
        columns=_common_columns(results),
        shards=shards,
        plan_hash=plan_hash,
        code_hash=code_hash,
        source=source,
        bad_files=bad,
        num_rows_read=num_rows,
        num_bytes_read=sum(result.num_bytes_read for result in results),
    )


def check_bad_files(bad: Sequence[BadFile], num_files: int, max_bad_files: int) -> None:
    """Raise ``PlanError`` naming the bad files if there are more than the plan allows."""
    if max_bad_files < 0 or len(bad) <= max_bad_files:
        return
    raise PlanError(
        [
            Problem(
                "data.max_bad_files",
                f"{len(bad)} of {_files(num_files)} cannot be read:{_listed(bad)}",
                arithmetic=f"{len(bad)} bad files > max_bad_files {max_bad_files}",
                works=f"mend them, or data.max_bad_files={len(bad)}",
            )
        ]
    )


def _common_columns(results: Sequence[ShardResult]) -> tuple[Column, ...]:
    kept = [result for result in results if result.shard is not None]
    first = kept[0]
    for index, other in enumerate(kept[1:], start=2):
        if other.columns != first.columns:
            what = "samples of different files differ in form"
            forms = f"shard 1 has {_form(first)}; shard {index} has {_form(other)}"
            works = "the same keys, dtypes and shapes for every row"
            raise JobError(Problem("job", what, arithmetic=forms, works=works))
    return first.columns


def _empty(bad: Sequence[BadFile], num_files: int, num_rows: int) -> Problem:
    good = num_files - len(bad)
    counts = f"{_files(num_files)}: {len(bad)} bad, {good} good with {num_rows} rows"
    if num_files and len(bad) == num_files:
        what = f"empty corpus: not one file can be read:{_listed(bad)}"
        return Problem("data.source", what, arithmetic=counts)
    if num_rows:
        what = "empty corpus: the Job made no samples from the rows of the source"
        return Problem(
            "data.source", what, arithmetic=counts, works="longer rows, or other options"
        )
    return Problem("data.source", "empty corpus: the source has no rows", arithmetic=counts)


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _listed(bad: Sequence[BadFile]) -> str:
    lines = [f"\n    {file.path}: {file.reason}" for file in bad[:_SHOWN]]
    more = len(bad) - _SHOWN
    return "".join(lines) + (f"\n    and {more} more" if more > 0 else "")


def _form(result: ShardResult) -> str:
    return ", ".join(f"{column.name} {column.describe()}" for column in result.columns)
