"""Collectives and split layers timed by real ranks, as ``axis calibrate`` does."""

from __future__ import annotations

import torch
import torch.distributed as dist

from orchestrator.planner.calibration.timings import ExchangeTiming, LayerTiming
from orchestrator.runtime.calibration import exchanges, layers


def timed_case(sizes: tuple[int, ...]) -> tuple[ExchangeTiming, ...]:
    """Every collective at ``sizes``, quickly."""
    exchanges.SIZES["cpu"] = sizes
    exchanges._ROUND_SECONDS = 0.01
    assert dist.group.WORLD is not None
    return exchanges.measure_exchanges(dist.group.WORLD, torch.device("cpu"))


def layers_case() -> tuple[LayerTiming, ...]:
    """A layer in every way, quickly."""
    layers._ROUNDS = 5
    return layers.measure_layers(dist.group.WORLD)
