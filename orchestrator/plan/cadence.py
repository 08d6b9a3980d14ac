"""After which steps is state committed?

Pure arithmetic on step numbers; does not know how a checkpoint is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

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


def checkpoint_rule(every: int | Literal["auto"], steps: int) -> Callable[[int], bool]:
    """``is_checkpoint_step`` of one run, as a question about a step alone."""
    return lambda step: is_checkpoint_step(step, steps, every)
