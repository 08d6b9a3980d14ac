"""Collectives and split layers timed by real ranks, as ``axis calibrate`` does."""

from __future__ import annotations

import torch
import torch.distributed as dist

from orchestrator.planner.calibration.timings import ExchangeTiming, LayerTiming
from orchestrator.runtime.calibration import exchanges, layers, pace


def timed_case(sizes: tuple[int, ...]) -> tuple[ExchangeTiming, ...]:
    """Every collective at ``sizes``, quickly."""
    exchanges.SIZES["cpu"] = sizes
    exchanges._ROUND_SECONDS = exchanges._APART_SECONDS = 0.01
    assert dist.group.WORLD is not None
    return exchanges.measure_exchanges(dist.group.WORLD, torch.device("cpu"))


def pace_case() -> tuple[tuple[float, ...], ...]:
    """Few and short steps."""
    pace._STEP_SECONDS, pace._STEPS = 0.02, 4
    assert dist.group.WORLD is not None
    return pace.measure_pace(dist.group.WORLD)


def layers_case() -> tuple[LayerTiming, ...]:
    """A layer in every way, quickly."""
    layers._ROUNDS = 5
    return layers.measure_layers(dist.group.WORLD)
