"""In what condition are a run's checkpoints, and what is done about those that are no use?

A damaged one is marked and left where it is, so that it can be looked into; nobody takes it any
more. What a crash or a full disk left without a manifest is deleted. Knows nothing of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from orchestrator.errors import DamagedError, ResumeRefused, StorageError
from orchestrator.parallel.manifest import (
    CHECKPOINTS,
    MANIFEST,
    check_sizes,
    parse_folder,
)
from orchestrator.storage import Storage

DAMAGE_MARK = "damaged.json"
"""The file in a checkpoint's folder that sets it aside and says why; without it the checkpoint
counts again."""

Condition = Literal[
    "sound",  # it has a manifest and every file is there, as long as it was written
    "damaged",  # it was marked, or does not look as it was written
    "partial",  # it has no manifest: being written, or left by a crash
    "newer",  # it is of a format that this version does not know
]


@dataclass(frozen=True)
class Kept:
    """A checkpoint's folder as it lies there; its files' contents were not read.

    ``reason`` says why it is not sound. ``at_seconds`` is when its manifest, or else its newest
    file, was written; 0 where storage keeps no time.
    """

    folder: str
    step: int
    attempt: int
    condition: Condition
    reason: str = ""
    size_bytes: int = 0
    at_seconds: float = 0.0
    mesh: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def list_checkpoints(run: Storage) -> list[str]:
    """Folders that have a manifest and no mark of damage, newest first, relative to the run.

    None is verified.
    """
    return [
        folder
        for folder in _folders(run)
        if run.exists(f"{folder}/{MANIFEST}") and not run.exists(f"{folder}/{DAMAGE_MARK}")
    ]


def survey(run: Storage) -> tuple[Kept, ...]:
    """Every checkpoint's folder of a run, oldest first."""
    return tuple(_look_at(run, folder) for folder in reversed(_folders(run)))


def mark_damaged(run: Storage, folder: str, reason: str) -> None:
    """Set a checkpoint aside, durably, with the reason."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = json.dumps({"reason": reason, "found_at": now}, indent=1)
    run.write_atomic(f"{folder}/{DAMAGE_MARK}", mark.encode() + b"\n")


def damage_of(run: Storage, folder: str) -> str:
    """Why a checkpoint was set aside; empty where it was not."""
    if not run.exists(f"{folder}/{DAMAGE_MARK}"):
        return ""
    try:
        return str(json.loads(run.read_bytes(f"{folder}/{DAMAGE_MARK}"))["reason"])
    except (ValueError, KeyError, TypeError):
        return "set aside, for a reason that cannot be read"


def collect_partial(run: Storage, attempt: int) -> tuple[str, ...]:
    """Delete what attempts before ``attempt`` left without a manifest; returns those folders.

    A later attempt, or this one, may still be writing; an earlier one can commit no more. What
    is marked as damaged stays.
    """
    left = [
        folder
        for folder in _folders(run)
        if _attempt_of(folder) < attempt
        and not run.exists(f"{folder}/{MANIFEST}")
        and not run.exists(f"{folder}/{DAMAGE_MARK}")
    ]
    for folder in left:
        run.delete_dir(folder)
    return tuple(left)


def discard(run: Storage, folder: str) -> None:
    """Delete a checkpoint that failed while it was written, unless it exists after all."""
    if run.exists(folder) and not run.exists(f"{folder}/{MANIFEST}"):
        run.delete_dir(folder)


def _folders(run: Storage) -> list[str]:
    """All folders with the name of a checkpoint, newest first."""
    found = []
    for entry in run.list(CHECKPOINTS):
        key = parse_folder(entry.path)
        if entry.is_dir and key:
            found.append((key, entry.path))
    return [path for _, path in sorted(found, reverse=True)]


def _attempt_of(folder: str) -> int:
    key = parse_folder(folder)
    assert key is not None
    return key[1]


def _look_at(run: Storage, folder: str) -> Kept:
    key = parse_folder(folder)
    assert key is not None
    step, attempt = key
    entries = [entry for entry in run.list(folder, recursive=True) if not entry.is_dir]
    seconds = max((entry.mtime_ns for entry in entries), default=0) / 1e9
    seen = Kept(
        folder,
        step,
        attempt,
        "partial",
        "it has no manifest",
        sum(entry.size_bytes for entry in entries),
        seconds,
    )
    mark = damage_of(run, folder)
    if not run.exists(f"{folder}/{MANIFEST}"):
        return _but(seen, "damaged", mark) if mark else seen
    try:
        manifest = check_sizes(run.child(folder))
    except ResumeRefused as error:
        return _but(seen, "newer", error.problems[0].arithmetic)
    except (DamagedError, StorageError) as error:
        return _but(seen, "damaged", mark or str(error))
    written = run.stat(f"{folder}/{MANIFEST}")
    return Kept(
        folder,
        step,
        attempt,
        "damaged" if mark else "sound",
        mark,
        manifest.size_bytes,
        written.mtime_ns / 1e9 if written else seconds,
        manifest.mesh,
        manifest.metrics,
    )


def _but(kept: Kept, condition: Condition, reason: str) -> Kept:
    return replace(kept, condition=condition, reason=reason)
