"""Which checkpoint is served, and may it be? With the arithmetic.

Knows records and the plan's gate; does not know what serving is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.coordinator.policy import Promotion
from orchestrator.coordinator.retention import best_of
from orchestrator.coordinator.state import CheckpointRecord


@dataclass(frozen=True)
class Verdict:
    """``promoted`` is the checkpoint to serve, or ``None`` when the gate says no; ``reason``
    shows the arithmetic of either."""

    promoted: CheckpointRecord | None
    reason: str


def judge(
    committed: Sequence[CheckpointRecord], promotion: Promotion, num_evaluated: int
) -> Verdict:
    """Choose the best checkpoint and hold it against the gate.

    ``num_evaluated`` is how many checkpoints of the run ever had the metric, deleted ones
    included. When none that exists has it, the newest is served if there is no gate.
    """
    if not committed:
        return Verdict(None, "there is no committed checkpoint to promote")
    best = best_of(committed, promotion.metric, promotion.mode)
    if best is None:
        return _unrated(committed[-1], promotion)
    rank = f"best of {_checkpoints(num_evaluated)}"
    refusal = _gate_refusal(best, promotion)
    if refusal:
        return Verdict(None, f"{refusal} at step {best.step}; {rank}")
    figures = _passed(best, promotion)
    return Verdict(best, f"{figures} at step {best.step}; {rank} by {promotion.metric}")


def _unrated(newest: CheckpointRecord, promotion: Promotion) -> Verdict:
    there = ", ".join(sorted(newest.metrics)) or "none"
    what = f"no checkpoint has a finite {promotion.metric} (metrics of the newest: {there})"
    if promotion.below is not None or promotion.above is not None:
        return Verdict(None, f"{what}, so the gate cannot be judged")
    return Verdict(newest, f"{what}; the newest, of step {newest.step}, is taken")


def _gate_refusal(record: CheckpointRecord, promotion: Promotion) -> str:
    name = promotion.gate_metric or promotion.metric
    if promotion.below is None and promotion.above is None:
        return ""
    value = record.metrics.get(name, math.nan)
    if not math.isfinite(value):
        return f"the gate asks for {name}, which is missing or not finite"
    if promotion.below is not None and not value < promotion.below:
        return f"{name} {value:.6g} is not below {promotion.below}"
    if promotion.above is not None and not value > promotion.above:
        return f"{name} {value:.6g} is not above {promotion.above}"
    return ""


def _passed(record: CheckpointRecord, promotion: Promotion) -> str:
    name = promotion.gate_metric or promotion.metric
    if promotion.below is None and promotion.above is None:
        return f"{promotion.metric} {record.metrics[promotion.metric]:.6g} (no gate)"
    bounds = [f"below {promotion.below}"] if promotion.below is not None else []
    bounds += [f"above {promotion.above}"] if promotion.above is not None else []
    return f"{name} {record.metrics[name]:.6g} is {' and '.join(bounds)}"


def _checkpoints(count: int) -> str:
    return "1 checkpoint" if count == 1 else f"{count} checkpoints"
