"""After which steps is there a checkpoint? Pure arithmetic, for runs without a coordinator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

CHECKPOINTS_PER_RUN = 8
"""What ``auto`` spreads over a run, at most."""


def every(cadence: int | Literal["auto"], steps: int) -> Callable[[int], bool]:
    """Whether there is a checkpoint after a step: every so many of them, and after the last."""
    interval = math.ceil(steps / CHECKPOINTS_PER_RUN) if cadence == "auto" else cadence
    return lambda step: step % interval == 0 or step == steps
