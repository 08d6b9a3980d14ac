"""How long does something take, measured often enough and not too long?"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

_LEAST_TIMES = 5
_MOST_TIMES = 400
_WARM_UPS = 2


def timed(call: Callable[[], object], budget_seconds: float, device: torch.device) -> float:
    """Median seconds of ``call``, after two that do not count; on an accelerator until it is done.

    Called for about ``budget_seconds``, but five times at the least.
    """
    for _ in range(_WARM_UPS):
        call()
    finish(device)
    found: list[float] = []
    ends = time.perf_counter() + budget_seconds
    while len(found) < _LEAST_TIMES or (time.perf_counter() < ends and len(found) < _MOST_TIMES):
        begun = time.perf_counter()
        call()
        finish(device)
        found.append(time.perf_counter() - begun)
    return median(found)


def finish(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
