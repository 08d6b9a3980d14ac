"""How does a series of figures look at a glance, in plain text?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
CURVE_BARS = 48


def sparkline(values: Sequence[float], width: int = CURVE_BARS) -> str:
    """``values`` as a row of at most ``width`` bars, lowest to highest; ``×`` where a value is
    not finite. Longer series are averaged in equal stretches."""
    points = _stretches_of(values, width)
    finite = [value for value in points if math.isfinite(value)]
    if not finite:
        return "×" * len(points)
    low, span = min(finite), max(finite) - min(finite)
    return "".join(_bar(value, low, span) for value in points)


def spread(points: Sequence[tuple[int, float]], rows: int) -> list[tuple[int, float]]:
    """At most ``rows`` of the points, evenly over the run, first and last included."""
    if len(points) <= rows:
        return list(points)
    last = len(points) - 1
    return [points[round(index * last / (rows - 1))] for index in range(rows)]


def _stretches_of(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    cuts = [values[start:stop] for start, stop in itertools.pairwise(edges)]
    return [sum(cut) / len(cut) for cut in cuts]


def _bar(value: float, low: float, span: float) -> str:
    if not math.isfinite(value):
        return "×"
    share = (value - low) / span if span > 0 else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
