"""Which few numbers stand for many timings? Least squares by hand, of relative errors.

Times of small and large messages differ by orders of magnitude; each counts by how far the fit is
from it relative to itself. No numpy: a handful of points, two or three unknowns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.planner.calibration.timings import (
    AttentionTiming,
    ExchangeTiming,
    KernelTiming,
    LayerTiming,
    ProductTiming,
)
from orchestrator.planner.cost import collectives
from orchestrator.planner.cost.device import Collective, HalfLengths
from orchestrator.planner.cost.groups import LAUNCH_SECONDS
from orchestrator.planner.cost.passes import head_efficiency
from orchestrator.planner.cost.spread import expected_maximum

LEAST_LATENCY_SECONDS = 1e-7
"""A step that a fit puts below this is taken for it: no step takes nothing."""

LONGEST_HALF = 1024.0
_ROUNDS = 40
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class LinkFit:
    """Seconds of a step (alpha) and of a byte (beta), and the mean relative error of the fit."""

    alpha: float
    beta: float
    error: float

    @property
    def bandwidth(self) -> float:
        """Bytes per second."""
        return 1.0 / self.beta


@dataclass(frozen=True, slots=True)
class ProductFit:
    """The full rate in operations per second, the half lengths, and the mean relative error."""

    rate: float
    half: HalfLengths
    error: float


_TIMES: dict[Collective, Callable[[float, int, float, float], float]] = {
    "broadcast": collectives.broadcast,
    "all_reduce": collectives.all_reduce_ring,
    "all_gather": collectives.all_gather,
    "reduce_scatter": collectives.reduce_scatter,
    "all_to_all": collectives.all_to_all,
}
"""The formula with which the planner asks for each."""


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """``a`` and ``b`` of ``y = a + b·x`` with the least sum of squared relative errors.

    Raises ``ValueError`` for fewer than two different ``x`` or a ``y`` that is not above 0.
    """
    if len({x for x, _ in points}) < 2 or any(y <= 0 for _, y in points):
        raise ValueError("a line needs two different sizes, and times above 0")
    # Minimises Σ ((a + b·x)/y − 1)²: a linear problem in 1/y and x/y.
    s11 = sum(1 / (y * y) for _, y in points)
    s12 = sum(x / (y * y) for x, y in points)
    s22 = sum(x * x / (y * y) for x, y in points)
    t1, t2 = sum(1 / y for _, y in points), sum(x / y for x, y in points)
    determinant = s11 * s22 - s12 * s12
    return (t1 * s22 - t2 * s12) / determinant, (s11 * t2 - s12 * t1) / determinant


def fit_link(timings: Sequence[ExchangeTiming]) -> LinkFit:
    """Alpha and beta of one collective on one number of ranks.

    What the planner adds for the start of a collective is taken off. Raises ``ValueError`` for
    timings of different collectives, and for fewer than two sizes.
    """
    kinds = {(each.collective, each.ranks) for each in timings}
    if len(kinds) != 1:
        raise ValueError(f"a link is fitted to one collective and number of ranks, not {kinds}")
    ((collective, ranks),) = kinds
    time = _TIMES[collective]
    points = [(float(each.num_bytes), each.seconds) for each in timings]
    constant, slope = fit_line(points)
    steps = time(0.0, ranks, 1.0, 0.0)
    share = time(1.0, ranks, 0.0, 1.0)
    launch = 0.0 if collective == "broadcast" else LAUNCH_SECONDS
    alpha = max(LEAST_LATENCY_SECONDS, (constant - launch) / steps)
    beta = max(slope, _slope_through(points)) / share if slope <= 0 else slope / share
    error = _mean_error([(launch + time(x, ranks, alpha, beta), y) for x, y in points])
    return LinkFit(alpha, beta, error)


def _slope_through(points: Sequence[tuple[float, float]]) -> float:
    """Seconds a byte of the largest message, where a line would have it below nothing."""
    size, seconds = max(points)
    return seconds / size


def fit_products(timings: Sequence[ProductTiming]) -> ProductFit:
    """Full rate and half lengths of products of one precision, least squares of the logarithm.

    Hockney and Jesshope 1981: a side of length n reaches n/(n + n½) of the full rate. Each half
    length is searched in turn until none moves. Raises ``ValueError`` without timings.
    """
    if not timings:
        raise ValueError("no products were timed")
    half = [1.0, 1.0, 1.0]
    for _ in range(_ROUNDS):
        before = list(half)
        for index in range(3):
            half[index] = _best_length(timings, half, index)
        if max(abs(old - new) for old, new in zip(before, half, strict=True)) < 1e-3:
            break
    rate = math.exp(_mean_log(timings, half))
    pairs = [(2.0 * t.rows * t.columns * t.inner / (rate * _share(t, half)), t.seconds)
             for t in timings]  # fmt: skip
    rows, columns, inner = (round(length, 2) for length in half)
    lengths = HalfLengths(rows=rows, columns=columns, inner=inner)
    return ProductFit(rate, lengths, _mean_error(pairs))


def _best_length(timings: Sequence[ProductTiming], half: list[float], index: int) -> float:
    """The half length of one side that leaves least, by golden section over its logarithm."""

    def left(log_length: float) -> float:
        tried = [*half]
        tried[index] = math.expm1(log_length)
        logs = [math.log(each.rate / _share(each, tried)) for each in timings]
        middle = sum(logs) / len(logs)
        return sum((log - middle) ** 2 for log in logs)

    low, high = 0.0, math.log1p(LONGEST_HALF)
    while high - low > 1e-4:
        inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if left(inner) <= left(outer):
            high = outer
        else:
            low = inner
    return math.expm1((low + high) / 2)


def _share(timing: ProductTiming, half: Sequence[float]) -> float:
    sides = (timing.rows, timing.columns, timing.inner)
    return math.prod(side / (side + length) for side, length in zip(sides, half, strict=True))


def _mean_log(timings: Sequence[ProductTiming], half: Sequence[float]) -> float:
    logs = [math.log(each.rate / _share(each, half)) for each in timings]
    return sum(logs) / len(logs)


def fit_attention(timings: Sequence[AttentionTiming], peak: float) -> tuple[float, float]:
    """Shares of ``peak`` that fused attention reaches at head size 128, forward and backward.

    Half of the scores are masked, as the planner counts; the backward pass has 5/2 of the
    operations (Dao 2022). The geometric mean over the timings. Raises ``ValueError`` without any.
    """
    if not timings:
        raise ValueError("no attention was timed")
    forward, backward = [], []
    for each in timings:
        flops = 2.0 * each.length * each.length * each.head_size * each.heads
        full = peak * head_efficiency(each.head_size)
        forward.append(math.log(flops / each.forward_seconds / full))
        backward.append(math.log(2.5 * flops / each.backward_seconds / full))
    shares = [math.exp(sum(logs) / len(logs)) for logs in (forward, backward)]
    return min(1.0, shares[0]), min(1.0, shares[1])


def fit_kernels(timings: Sequence[KernelTiming]) -> float:
    """Bytes per second of elementwise kernels, as the planner counts bytes: the median."""
    if not timings:
        raise ValueError("no kernels were timed")
    return median(each.num_bytes / each.seconds for each in timings)


def fit_spread(pace: Sequence[Sequence[float]]) -> float:
    """The standard deviation of what ranks took for the same work, as a share of their mean, that
    has them wait for the slowest as long as they did in the median of the steps: a run's step is
    a median, too. Raises ``ValueError`` without steps, and for one rank."""
    if not pace or min(len(step) for step in pace) < 2:
        raise ValueError("how ranks differ is told by steps of two and more")
    waits = [max(step) * len(step) / sum(step) - 1.0 for step in pace]
    return median(waits) / expected_maximum(len(pace[0]))


def layer_host(timings: Sequence[LayerTiming]) -> dict[str, dict[str, float]]:
    """The fields of ``LayerHost`` that ``timings`` tell: what a layer takes beyond a plain one, and
    beyond one that is not split. Of full recomputation the plain forward pass is taken off, whose
    operations the planner counts. Empty without timings."""
    found = {(each.recompute, each.split): each for each in timings}
    plain = found.get(("none", "alone"))
    if plain is None:
        return {}
    counted = {"none": 0.0, "selective": 0.0, "full": plain.forward_seconds}
    told: dict[str, dict[str, float]] = {}
    for (recompute, split), timing in found.items():
        beyond = plain.seconds + counted[recompute]
        if split != "alone":
            beyond = found[recompute, "alone"].seconds
        if timing is not plain:
            told.setdefault(recompute, {})[split] = max(0.0, timing.seconds - beyond)
    return told


def _mean_error(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(abs(found / measured - 1.0) for found, measured in pairs) / len(pairs)
