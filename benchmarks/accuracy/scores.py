"""How good is a set of predictions? Errors, rank correlation, and the choice they lead to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One prediction beside its measurement, in the same unit.

    ``work`` is what the null model divides by its constant: model operations per device and
    second of peak, so that the null model predicts ``work / mfu``.
    """

    label: str
    predicted: float
    measured: float
    work: float = 0.0
    cell: tuple[object, ...] = ()

    @property
    def error(self) -> float:
        """Signed, relative to the measurement."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True)
class Score:
    """Errors are shares: 0.1 is 10 %."""

    rows: int
    mean: float
    median: float
    worst: float
    bias: float
    rank: float


def score(pairs: Sequence[Pair]) -> Score:
    """Mean, median and worst absolute error, signed bias and Spearman's rank correlation."""
    errors = [pair.error for pair in pairs]
    sizes = [abs(error) for error in errors]
    return Score(
        len(pairs),
        statistics.fmean(sizes),
        statistics.median(sizes),
        max(sizes),
        statistics.fmean(errors),
        rank_correlation([p.predicted for p in pairs], [p.measured for p in pairs]),
    )


def null_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The null model: one constant MFU, the median of the set itself, which flatters it."""
    mfu = statistics.median(pair.work / pair.measured for pair in pairs)
    return [Pair(p.label, p.work / mfu, p.measured, p.work, p.cell) for p in pairs]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; nan where all values of one side are equal or there are fewer than two."""
    if len(one) < 2 or len(set(one)) == 1 or len(set(other)) == 1:
        return float("nan")
    return statistics.correlation(_ranks(one), _ranks(other))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for index in order[start:stop]:
            ranks[index] = (start + stop - 1) / 2
        start = stop
    return ranks


@dataclass(frozen=True)
class Choice:
    """How good the plan is that the predictions choose, over cells with several plans."""

    cells: int
    best_found: float
    within_three: float
    mean_regret: float
    worst_regret: float


def choice(pairs: Sequence[Pair]) -> Choice:
    """For each cell: is the fastest plan predicted first, or in the first three; and what does
    the predicted one cost more than the fastest?"""
    cells: dict[tuple[object, ...], list[Pair]] = {}
    for pair in pairs:
        cells.setdefault(pair.cell, []).append(pair)
    several = [members for members in cells.values() if len(members) > 1]
    regrets, found, near = [], 0, 0
    for members in several:
        ranked = sorted(members, key=lambda pair: pair.predicted)
        best = min(members, key=lambda pair: pair.measured)
        found += ranked[0] is best
        near += any(pair is best for pair in ranked[:3])
        regrets.append(ranked[0].measured / best.measured - 1.0)
    number = len(several)
    return Choice(number, found / number, near / number, statistics.fmean(regrets), max(regrets))
