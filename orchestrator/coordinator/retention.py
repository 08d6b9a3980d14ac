"""Which checkpoint is the best, and which may go?

Pure choices among records; does not know how a checkpoint is written or deleted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from orchestrator.coordinator.state import CheckpointRecord


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
