"""What do failures cost, and how often should state be saved?

Pure functions of numbers; those for the interval itself are of ``plan.cadence``. Times are seconds,
rates are failures per 1000 node-days, a node is one machine however many devices it has. They do
not know where a rate comes from, nor how a checkpoint is written.

Failures are taken for a Poisson process: independent, equally likely at any moment. Published
fleets are burstier than that at small scale (1024 GPUs of one fleet failed every 7.9 h where its
own node rate gives 28.8 h), so a measured time to failure is worth more than a rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.plan.cadence import daly_interval, goodput, young_interval

__all__ = [
    "GREATEST_RATE",
    "LEAST_RATE",
    "MEDIAN_RATE",
    "RESTART_SECONDS",
    "SECONDS_PER_DAY",
    "FailureTax",
    "daly_interval",
    "effective_training_time_ratio",
    "failure_tax",
    "goodput",
    "interruptions",
    "mean_time_to_failure",
    "nodes_for",
    "spares_needed",
    "young_interval",
]

SECONDS_PER_DAY = 86_400.0

LEAST_RATE, MEDIAN_RATE, GREATEST_RATE = 2.34, 3.79, 15.6
"""Failures per 1000 node-days over five published fleets, which differ by 6.7 times: RSC-2 2.34
and RSC-1 6.5 (arXiv:2410.21680), BLOOM-176B 2.98 (its logbook), Llama 3 405B 3.79
(arXiv:2407.21783, 419 in 54 days on 2,048 nodes), OPT-175B 15.6 (its logbook)."""

RESTART_SECONDS = 600.0
"""From a failure to the next useful step: the middle of the 5 to 20 min in arXiv:2410.21680."""


@dataclass(frozen=True, slots=True)
class FailureTax:
    """What failures take from a long computation. Shares are of wall-clock time."""

    num_nodes: int
    rate: float
    """Failures per 1000 node-days."""
    mean_time_to_failure_seconds: float
    num_interruptions: float
    """Expected over the time asked about."""
    interval_seconds: float
    """Useful work between two checkpoints."""
    checkpoint_share: float
    """Time spent saving."""
    failure_share: float
    """Time lost to work done again and to restarting."""
    goodput: float
    """What is left: useful work over wall-clock time, in [0, 1]."""


def nodes_for(num_devices: int, devices_per_node: int) -> int:
    """Nodes that hold ``num_devices``; the last may be partly filled."""
    _require(num_devices >= 0 and devices_per_node >= 1, "devices >= 0 and devices per node >= 1")
    return -(-num_devices // devices_per_node)


def mean_time_to_failure(num_nodes: float, rate: float) -> float:
    """Seconds between two failures anywhere among ``num_nodes``: 1 / (N · r).

    Infinite without nodes or without failures. Source: arXiv:2410.21680, which publishes 1.8 h
    for 16,384 GPUs and 0.23 h for 131,072, eight to a node, at 6.5 per 1000 node-days.
    """
    _require(num_nodes >= 0 and rate >= 0, "nodes and rate not negative")
    failures_per_day = num_nodes * rate / 1000.0
    return SECONDS_PER_DAY / failures_per_day if failures_per_day > 0 else math.inf


def interruptions(num_nodes: float, rate: float, duration_seconds: float) -> float:
    """Failures expected among ``num_nodes`` within ``duration_seconds``: N · r · T."""
    _require(duration_seconds >= 0, "a duration that is not negative")
    return duration_seconds / mean_time_to_failure(num_nodes, rate)


def effective_training_time_ratio(
    num_nodes: float,
    rate: float,
    interval_seconds: float,
    restart_seconds: float,
    checkpoint_seconds: float = 0.0,
) -> float:
    """The linear form that fleets are reported in: (1 - N·r·(u0 + Δt/2)) / (1 + w/Δt), at least 0.

    Source: arXiv:2410.21680. It drops failures during a restart, so ``goodput`` is lower where
    failures are frequent.
    """
    _require(interval_seconds > 0, "interval > 0")
    failures_per_second = 1.0 / mean_time_to_failure(num_nodes, rate)
    lost = failures_per_second * (restart_seconds + interval_seconds / 2.0)
    return max(0.0, 1.0 - lost) / (1.0 + checkpoint_seconds / interval_seconds)


def failure_tax(
    num_nodes: int,
    rate: float,
    checkpoint_seconds: float,
    duration_seconds: float,
    restart_seconds: float = RESTART_SECONDS,
) -> FailureTax:
    """The whole tax at Daly's interval, for ``duration_seconds`` of wall-clock time."""
    mttf = mean_time_to_failure(num_nodes, rate)
    if checkpoint_seconds <= 0:
        raise ValueError(f"a checkpoint costs more than {checkpoint_seconds:g} s")
    interval = daly_interval(mttf, checkpoint_seconds)
    useful = goodput(mttf, interval, checkpoint_seconds, restart_seconds)
    saving = 0.0 if math.isinf(interval) else useful * checkpoint_seconds / interval
    return FailureTax(
        num_nodes=num_nodes,
        rate=rate,
        mean_time_to_failure_seconds=mttf,
        num_interruptions=interruptions(num_nodes, rate, duration_seconds),
        interval_seconds=interval,
        checkpoint_share=saving,
        failure_share=max(0.0, 1.0 - useful - saving),
        goodput=useful,
    )


def spares_needed(
    num_nodes: int, rate: float, repair_seconds: float, confidence: float = 0.999
) -> int:
    """Nodes that are down at once with less than ``1 - confidence`` probability of more.

    The number down is Poisson with mean N · r · repair time (Little's law); the answer is its
    smallest quantile of at least ``confidence``.
    """
    _require(0 < confidence < 1 and repair_seconds >= 0, "0 < confidence < 1 and repair >= 0")
    mean = interruptions(num_nodes, rate, repair_seconds)
    if mean > 500.0:  # the sum below underflows there; the normal limit is exact enough
        return math.ceil(mean + _upper_normal(confidence) * math.sqrt(mean))
    term = math.exp(-mean)
    total, down = term, 0
    while total < confidence:
        down += 1
        term *= mean / down
        total += term
    return down


def _upper_normal(confidence: float) -> float:
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if 0.5 * (1.0 + math.erf(middle / math.sqrt(2.0))) < confidence:
            low = middle
        else:
            high = middle
    return high


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"needs {what}")
