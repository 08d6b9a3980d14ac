"""When is state committed, and which checkpoints may go?

Pure arithmetic on step numbers and records; does not know how a checkpoint is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from orchestrator.coordinator.state import CheckpointRecord

AUTO_CHECKPOINTS = 8
"""How many checkpoints ``every: auto`` spreads over a run."""


def interval_of(steps: int, every: int | Literal["auto"]) -> int:
    """Steps between two checkpoints. ``auto`` gives the smallest interval with at most
    ``AUTO_CHECKPOINTS`` checkpoints, ``ceil(steps / 8)``."""
    if every == "auto":
        return max(1, math.ceil(steps / AUTO_CHECKPOINTS))
    return every


def is_checkpoint_step(step: int, steps: int, every: int | Literal["auto"]) -> bool:
    """Whether a checkpoint follows the ``step``-th step (counted from 1); the last always."""
    return step == steps or (0 < step < steps and step % interval_of(steps, every) == 0)


def checkpoint_steps(steps: int, every: int | Literal["auto"]) -> tuple[int, ...]:
    """All steps (counted from 1) that a checkpoint follows, in order."""
    interval = interval_of(steps, every)
    regular = range(interval, steps, interval)
    return (*regular, steps)


def best_of(
    committed: Sequence[CheckpointRecord], metric: str, mode: Literal["min", "max"]
) -> CheckpointRecord | None:
    """The best checkpoint by ``metric`` among those that have it as a finite number; of equals
    the later one. ``None`` when no checkpoint has it."""
    sign = 1.0 if mode == "max" else -1.0
    rated = [
        (sign * record.metrics[metric], record.step, record)
        for record in committed
        if metric in record.metrics and math.isfinite(record.metrics[metric])
    ]
    return max(rated, key=lambda entry: entry[:2])[2] if rated else None


def superseded(
    committed: Sequence[CheckpointRecord],
    keep: int,
    best_metric: str | None,
    mode: Literal["min", "max"],
    protected: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Folders that may be deleted: all but the newest ``keep``, the best by ``best_metric``
    and the ``protected`` ones. In order of step."""
    ordered = sorted(committed, key=lambda record: record.step)
    kept = {record.folder for record in ordered[-keep:]} | protected
    best = best_of(ordered, best_metric, mode) if best_metric else None
    if best is not None:
        kept.add(best.folder)
    return tuple(record.folder for record in ordered if record.folder not in kept)
