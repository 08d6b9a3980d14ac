"""Do more workers help, how much, and where does one more stop paying?

The laws of scaling as pure functions of numbers; the standard library is all they need. Times are
seconds, rates bytes or FLOP per second. They do not know what the work is: whoever calls hands in
a time for every worker count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


def amdahl_speedup(serial_share: float, workers: float) -> float:
    """Speedup of a job of fixed size: 1 / (s + (1 - s)/K).

    ``serial_share`` s is the share of the one-worker time that cannot be split; the limit is 1/s.
    Source: Amdahl, AFIPS 1967.
    """
    _check_share(serial_share, workers)
    return 1.0 / (serial_share + (1.0 - serial_share) / workers)


def gustafson_speedup(serial_share: float, workers: float) -> float:
    """Speedup of a job that grows with its workers: K - s·(K - 1).

    ``serial_share`` s is the share of the *parallel* run that is serial. Source: Gustafson, CACM
    31(5), 1988.
    """
    _check_share(serial_share, workers)
    return workers - serial_share * (workers - 1.0)


def karp_flatt_serial_share(speedup: float, workers: float) -> float:
    """The serial share that a measured speedup implies: (1/S - 1/K) / (1 - 1/K).

    Rising with K it points to communication, constant to serial code. Source: Karp and Flatt,
    CACM 33(5), 1990.
    """
    if workers <= 1 or speedup <= 0:
        raise ValueError(f"needs more than 1 worker and a speedup above 0: {workers}, {speedup}")
    return (1.0 / speedup - 1.0 / workers) / (1.0 - 1.0 / workers)


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a device can do: compute and memory rates, in FLOP/s and bytes/s."""

    peak_flops: float
    bandwidth_bytes: float

    def __post_init__(self) -> None:
        if self.peak_flops <= 0 or self.bandwidth_bytes <= 0:
            raise ValueError("a roofline needs a compute rate and a bandwidth above 0")

    @property
    def ridge(self) -> float:
        """FLOP per byte at which both limits meet; below it memory binds, above it compute."""
        return self.peak_flops / self.bandwidth_bytes

    def attainable_flops(self, intensity: float) -> float:
        """FLOP/s at ``intensity`` FLOP per byte: min(peak, intensity · bandwidth).

        Source: Williams, Waterman and Patterson, CACM 52(4), 2009.
        """
        return min(self.peak_flops, intensity * self.bandwidth_bytes)

    def seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for work of ``flops`` that moves ``num_bytes``: the larger of the two."""
        return max(flops / self.peak_flops, num_bytes / self.bandwidth_bytes)


def communication_ratio(communication_seconds: float, compute_seconds: float) -> float:
    """Communication over computation; above 1 a step moves bytes longer than it computes."""
    if compute_seconds <= 0:
        raise ValueError(f"compute time must be above 0, not {compute_seconds}")
    return communication_seconds / compute_seconds


@dataclass(frozen=True, slots=True)
class Point:
    """One worker count: the time of a step and what it gains over the first count."""

    workers: int
    step_seconds: float
    speedup: float
    efficiency: float
    """Speedup per added worker, relative to the first count; 1 is linear."""
    marginal_gain: float
    """Speedup that each worker added since the count before brought; 1 is a whole worker."""


def scaling_curve(step_seconds: Callable[[int], float], counts: Iterable[int]) -> tuple[Point, ...]:
    """Speedup and efficiency at each of ``counts``, in order; the smallest is the baseline.

    The speedup of the baseline is its own worker count, as if it were perfectly efficient.
    Raises ``ValueError`` for no counts, counts below 1 or a time that is not above 0.
    """
    ordered = sorted(set(counts))
    if not ordered or ordered[0] < 1:
        raise ValueError(f"needs worker counts from 1, not {ordered}")
    times = [step_seconds(count) for count in ordered]
    if min(times) <= 0:
        raise ValueError(f"a step takes more than 0 s: {min(times)}")
    base = ordered[0] * times[0]
    points: list[Point] = []
    for count, seconds in zip(ordered, times, strict=True):
        speedup = base / seconds
        gain = 1.0
        if points:
            before = points[-1]
            gain = (speedup - before.speedup) / (count - before.workers)
        points.append(Point(count, seconds, speedup, speedup / count, gain))
    return tuple(points)


def honest_worker_count(curve: Sequence[Point], least_gain: float = 0.5) -> int:
    """The last count of a curve whose added workers each still brought ``least_gain`` of a worker.

    With ``least_gain=0`` the answer is where one more worker makes the step slower; the default
    stops where an added worker is worth half of one, since it is paid for in full.
    """
    if not curve:
        raise ValueError("a curve without points has no honest worker count")
    honest = curve[0].workers
    for point in curve[1:]:
        if point.marginal_gain <= 0 or point.marginal_gain < least_gain:
            break
        honest = point.workers
    return honest


def _check_share(serial_share: float, workers: float) -> None:
    if not 0 <= serial_share <= 1 or workers < 1:
        raise ValueError(
            f"needs a serial share in [0, 1] and at least 1 worker: {serial_share}, {workers}"
        )
