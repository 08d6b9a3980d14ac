"""What do real runs say of the predictions? Two factors, for computing and for communicating.

Primitives that were timed one by one leave out what only a whole step has: caches that other
kernels emptied, a clock that a long run lowers. The factors are medians over runs of what was
measured over what was predicted without them, so one odd run moves them little. They belong to a
machine, never to a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from orchestrator.planner.cost.device import Device, Refit
from orchestrator.planner.forecast.parts import Parts

LEAST_SECONDS = 1e-5
"""Communication below this is no measure of a link."""

SANE = (0.4, 2.5)
"""A run that took more or less than this over its prediction did something that the model does
not know; it is left out, and named."""


@dataclass(frozen=True)
class Pair:
    """One run: what primitives alone predict of a step, and what was measured."""

    name: str
    predicted: Parts
    measured: Parts


@dataclass(frozen=True)
class Refitted:
    """The new factors, the runs they rest on, and those left out with the reason."""

    refit: Refit
    used: tuple[Pair, ...]
    left_out: tuple[tuple[str, str], ...]


def refit(pairs: Sequence[Pair]) -> Refitted:
    """The factors that ``pairs`` ask for. Raises ``ValueError`` where none can be used."""
    used, left_out = [], []
    for pair in pairs:
        reason = _unusable(pair)
        if reason:
            left_out.append((pair.name, reason))
        else:
            used.append(pair)
    if not used:
        raise ValueError("no run can be used")
    computing = [each.measured.compute / each.predicted.compute for each in used]
    talking = [
        each.measured.communication / each.predicted.communication
        for each in used
        if min(each.predicted.communication, each.measured.communication) > LEAST_SECONDS
    ]
    found = Refit(
        computation=_digits(median(computing)),
        communication=_digits(median(talking)) if talking else 1.0,
        num_runs=len(used),
    )
    return Refitted(found, tuple(used), tuple(left_out))


def _unusable(pair: Pair) -> str:
    if not pair.measured.apart:
        return "nobody could tell its computing from its waiting"
    ratio = pair.measured.compute / pair.predicted.compute
    if not SANE[0] <= ratio <= SANE[1]:
        return f"computing took {ratio:.2g} times what was predicted: something else was going on"
    return ""


def _digits(factor: float) -> float:
    return float(f"{factor:.4g}")


def corrected(pair: Pair, factors: Refit) -> Parts:
    """What is predicted of a run with the factors: parts scale by them."""
    parts = pair.predicted
    return Parts(
        compute=parts.compute * factors.computation,
        communication=parts.communication * factors.communication,
        waiting=parts.waiting * factors.computation,
        data=parts.data,
        checkpoint=parts.checkpoint,
    )


def mean_error(pairs: Sequence[Pair], factors: Refit) -> float:
    """Mean relative error of the step over ``pairs``."""
    steps = [(corrected(each, factors).step, each.measured.step) for each in pairs]
    return fmean(abs(predicted / measured - 1.0) for predicted, measured in steps)


def plain(device: Device) -> Device:
    """The device without what runs said of it."""
    return device.model_copy(update={"refit": Refit()})
