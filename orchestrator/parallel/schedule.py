"""How large is the learning rate at a step? Pure arithmetic."""

from __future__ import annotations

import math

from orchestrator.plan.training import Schedule


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """The rate of step ``step`` of ``steps``, counted from 1.

    Warm-up: ``peak · step / warmup``, so that step ``warmup`` is the first at the peak. After
    it, with ``t`` going from 0 at the peak to 1 at the last step, the share of the peak is
    ``floor + (1 - floor) · (1 + cos πt) / 2`` (cosine; Loshchilov & Hutter 2017),
    ``1 - (1 - floor) · t`` (linear) or 1 (none).
    """
    if step < schedule.warmup:
        return peak * step / schedule.warmup
    if schedule.decay == "none" or steps <= schedule.warmup:
        return peak
    # Without a warm-up the first step is at the peak, too.
    first = max(schedule.warmup, 1)
    t = (step - first) / max(steps - first, 1)
    if schedule.decay == "linear":
        return peak * (1 - (1 - schedule.floor) * t)
    return peak * (schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * t)) / 2)
