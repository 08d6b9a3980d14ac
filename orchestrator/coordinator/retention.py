"""Which checkpoint is the best, and which may go?

Pure choices among records; does not know how a checkpoint is written or deleted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from orchestrator.coordinator.state import CheckpointRecord

LOSS_METRIC = "val_loss"
"""By what the best are chosen where the plan promotes none."""


def best_of(
    committed: Sequence[CheckpointRecord], metric: str, mode: Literal["min", "max"]
) -> CheckpointRecord | None:
    """The best checkpoint by ``metric`` among those that have it as a finite number; of equals
    the later one. ``None`` when no checkpoint has it."""
    return next(iter(ranked(committed, metric, mode)), None)


def ranked(
    committed: Sequence[CheckpointRecord], metric: str, mode: Literal["min", "max"]
) -> list[CheckpointRecord]:
    """The checkpoints that have ``metric`` as a finite number, best first; of equals the later
    one first."""
    sign = 1.0 if mode == "max" else -1.0
    rated = [record for record in committed if math.isfinite(record.metrics.get(metric, math.nan))]
    return sorted(rated, key=lambda each: (sign * each.metrics[metric], each.step), reverse=True)


def superseded(
    committed: Sequence[CheckpointRecord],
    keep: int,
    best_metric: str,
    mode: Literal["min", "max"],
    protected: frozenset[str] = frozenset(),
    keep_best: int = 1,
) -> tuple[str, ...]:
    """Folders that may be deleted: all but the newest ``keep``, the ``keep_best`` best by
    ``best_metric`` and the ``protected`` ones. In order of step.

    ``keep`` is at least 1, so the one that a resume begins with always stays; so does the best
    one, which a promotion would choose, and what ``protected`` names because it is served.
    """
    ordered = sorted(committed, key=lambda record: record.step)
    best = ranked(ordered, best_metric, mode)[:keep_best]
    kept = {record.folder for record in (*ordered[-keep:], *best)} | protected
    return tuple(record.folder for record in ordered if record.folder not in kept)
