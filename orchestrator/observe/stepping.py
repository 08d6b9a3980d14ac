"""What did the steps of a run take, and where did the time go? From the records of its metrics.

Looks at the attempt that took most of the steps that count: others had other workers, or were cut
short.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from orchestrator.observe.metrics_log import Record, lasting

UNTYPICAL_STEPS = 2
"""The first steps of an attempt allocate and connect."""


@dataclass(frozen=True)
class Stepping:
    """One attempt's steps. ``step_seconds`` is their median, ``data_seconds`` and ``pause_seconds``
    (between two steps: evaluations, checkpoints) means for each step.

    ``exchange_share`` and ``waiting_share`` are shares of a step: what even the busiest worker
    waited, and what the others waited beyond; ``None`` where nobody could tell.
    ``training_seconds`` is from the first step's beginning to the end of the last evaluation.
    """

    attempt: int
    workers: int
    num_steps: int
    step_seconds: float
    data_seconds: float
    pause_seconds: float
    exchange_share: float | None
    waiting_share: float | None
    training_seconds: float


def stepping(records: Sequence[Record]) -> Stepping | None:
    """What the attempt with most steps came to; ``None`` where there were too few."""
    steps = lasting(records)
    counts: dict[int, int] = {}
    for each in steps:
        counts[each["attempt"]] = counts.get(each["attempt"], 0) + 1
    if not counts:
        return None
    attempt = max(counts, key=lambda each: counts[each])
    own = [each for each in steps if each["attempt"] == attempt]
    typical = own[UNTYPICAL_STEPS:]
    rest = [each for each in records if each.get("attempt") == attempt]
    workers = next((int(r["num_workers"]) for r in rest if r.get("kind") == "started"), 0)
    if not typical or not workers or any("at_seconds" not in each for each in own):
        return None
    last = _last_evaluation(rest, int(own[-1]["step"]))
    pauses = _pauses(own) + last
    begun = float(own[0]["at_seconds"]) - float(own[0]["step_seconds"])
    exchange, waiting = _shares(rest, workers)
    return Stepping(
        attempt=attempt,
        workers=workers,
        num_steps=len(own),
        step_seconds=median(float(each["step_seconds"]) for each in typical),
        data_seconds=fmean(float(each["data_seconds"]) for each in typical),
        pause_seconds=pauses / len(own),
        exchange_share=exchange,
        waiting_share=waiting,
        training_seconds=float(own[-1]["at_seconds"]) - begun + last,
    )


def _pauses(steps: Sequence[Record]) -> float:
    """Seconds between the end of a step and the beginning of the next, all together."""
    total = 0.0
    for before, after in itertools.pairwise(steps):
        gap = float(after["at_seconds"]) - float(before["at_seconds"])
        total += max(0.0, gap - float(after["step_seconds"]))
    return total


def _last_evaluation(records: Sequence[Record], step: int) -> float:
    """The evaluation after the last step, after which no step tells the time."""
    found = [r for r in records if r.get("kind") == "evaluation" and r.get("step") == step]
    return float(found[-1]["seconds"]) if found else 0.0


def _shares(records: Sequence[Record], workers: int) -> tuple[float | None, float | None]:
    if workers == 1:
        return 0.0, 0.0  # there is nobody to wait for
    told = [each for each in records if each.get("kind") == "shares"]
    whole = sum(float(each["step_seconds"]) for each in told)
    if whole <= 0:
        return None, None
    exchange = sum(float(each["exchange_seconds"]) for each in told) / whole
    return exchange, sum(float(each["waiting_seconds"]) for each in told) / whole
