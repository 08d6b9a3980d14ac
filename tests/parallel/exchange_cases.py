"""Collectives timed by real ranks, as ``axis calibrate`` does."""

from __future__ import annotations

import torch
import torch.distributed as dist

from orchestrator.planner.calibration.timings import ExchangeTiming
from orchestrator.runtime.calibration import exchanges


def timed_case(sizes: tuple[int, ...]) -> tuple[ExchangeTiming, ...]:
    """Every collective at ``sizes``, quickly."""
    exchanges.SIZES["cpu"] = sizes
    exchanges._ROUND_SECONDS = 0.01
    assert dist.group.WORLD is not None
    return exchanges.measure_exchanges(dist.group.WORLD, torch.device("cpu"))
