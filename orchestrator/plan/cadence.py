"""How often should state be committed, and after which steps?

Pure arithmetic, and the one owner of the formulas: a fixed number of steps, or the interval that
costs least. Times are seconds. Failures are taken for a Poisson process. Does not know how a
checkpoint is written, nor where a cost was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FailureHistory:
    """What a run's past says about failures.

    ``num_failures`` worker groups, or drivers, were lost in ``elapsed_seconds`` of training.
    ``restart_seconds`` is what a restart took, from the loss to the next finished step; ``None``
    where there was none.
    """

    num_failures: int = 0
    elapsed_seconds: float = 0.0
    restart_seconds: float | None = None

    def mean_seconds_between(self, prior_seconds: float) -> float:
        """Mean time between failures, the prior counted as one observation.

        (prior + elapsed) / (1 + failures): the prior before anything is known, and what the run
        itself shows once it has failed often. It is the posterior mean of the scale of an
        exponential distribution under a prior worth one failure.
        """
        return (prior_seconds + self.elapsed_seconds) / (1 + self.num_failures)


def young_interval(mttf_seconds: float, checkpoint_seconds: float) -> float:
    """Best work between two checkpoints to first order: √(2·δ·M).

    Source: Young, CACM 17(9), 1974. Too long once the checkpoint cost nears the time to failure.
    """
    _check_costs(mttf_seconds, checkpoint_seconds)
    return math.sqrt(2.0 * checkpoint_seconds * mttf_seconds)


def daly_interval(mttf_seconds: float, checkpoint_seconds: float) -> float:
    """Best work between two checkpoints to higher order.

    √(2·δ·M)·[1 + ⅓·√(δ/2M) + ⅑·(δ/2M)] - δ where δ < 2·M, and M beyond. Source: Daly, Future
    Generation Computer Systems 22(3), 2006, equation 37; M = 24 h, 6 h and 15 min at a cost of
    5 min give 117, 57 and 9.1 min.
    """
    _check_costs(mttf_seconds, checkpoint_seconds)
    if math.isinf(mttf_seconds):
        return math.inf
    if checkpoint_seconds >= 2.0 * mttf_seconds:
        return mttf_seconds
    ratio = checkpoint_seconds / (2.0 * mttf_seconds)
    first = math.sqrt(2.0 * checkpoint_seconds * mttf_seconds)
    return first * (1.0 + math.sqrt(ratio) / 3.0 + ratio / 9.0) - checkpoint_seconds


def goodput(
    mttf_seconds: float,
    interval_seconds: float,
    checkpoint_seconds: float,
    restart_seconds: float,
) -> float:
    """Useful work over wall-clock time, in [0, 1].

    τ / (M · e^(R/M) · (e^((τ+δ)/M) - 1)), where τ is the interval, δ the checkpoint, R the restart
    and M the mean time to failure; failures may also strike while saving and restarting. Source:
    Daly 2006, the complete cost function, as a ratio.
    """
    _check_costs(mttf_seconds, checkpoint_seconds)
    if interval_seconds <= 0 or restart_seconds < 0:
        raise ValueError("needs interval > 0 and restart >= 0")
    if math.isinf(mttf_seconds):
        if math.isinf(interval_seconds):
            return 1.0
        return interval_seconds / (interval_seconds + checkpoint_seconds)
    exponent = (interval_seconds + checkpoint_seconds) / mttf_seconds
    restart = restart_seconds / mttf_seconds
    if exponent + restart > 700.0:  # e^700 is the last that a float holds
        return 0.0
    return interval_seconds / (mttf_seconds * math.exp(restart) * math.expm1(exponent))


def is_checkpoint_step(step: int, steps: int, every: int) -> bool:
    """Whether a checkpoint follows the ``step``-th step (counted from 1); the last always."""
    return step == steps or (0 < step < steps and step % every == 0)


def checkpoint_steps(steps: int, every: int) -> tuple[int, ...]:
    """All steps (counted from 1) that a checkpoint follows, in order."""
    return (*range(every, steps, every), steps)


def _check_costs(mttf_seconds: float, checkpoint_seconds: float) -> None:
    if mttf_seconds <= 0:
        raise ValueError("needs a mean time to failure above 0 s")
    if checkpoint_seconds < 0:
        raise ValueError("needs a checkpoint cost that is not negative")
