"""What did a job come to at several numbers of workers? Speedup, efficiency, cost, and why.

The laws are those of ``scaling``; here measurements are put into them, with predictions beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planner.cost.estimate_text import seconds
from orchestrator.planner.forecast.parts import Parts, limit
from orchestrator.planner.scaling import (
    Point,
    honest_worker_count,
    karp_flatt_serial_share,
    scaling_curve,
)


@dataclass(frozen=True)
class Sized:
    """One number of workers: what was measured of a step, and what was predicted if anything was.

    ``samples`` is the global batch, ``tokens`` those of a step where a sample has any. ``hourly``
    is the price of all workers for an hour, where it was given.
    """

    workers: int
    measured: Parts
    predicted: Parts | None
    samples: int
    tokens: int | None
    hourly: float | None

    @property
    def units(self) -> int:
        """Tokens of a step, or samples where there are no tokens."""
        return self.tokens or self.samples

    def rate(self, parts: Parts) -> float:
        """Tokens (or samples) per second."""
        return self.units / parts.step

    @property
    def cost_per_million(self) -> float | None:
        """Price of a million tokens (or samples)."""
        if self.hourly is None:
            return None
        return self.hourly / 3600.0 * self.measured.step / self.units * 1e6

    @property
    def communication_share(self) -> float | None:
        """Of a step; ``None`` where nobody could tell."""
        if not self.measured.apart:
            return None
        return self.measured.communication / self.measured.step


@dataclass(frozen=True)
class Study:
    """All numbers of workers, smallest first, which is the baseline."""

    name: str
    sizes: tuple[Sized, ...]
    no_prediction: str
    about: tuple[tuple[str, str], ...]
    """What was studied and on what, as words."""

    @property
    def unit(self) -> str:
        """What a step is made of."""
        return "tokens" if self.sizes[0].tokens else "samples"

    @property
    def curve(self) -> tuple[Point, ...]:
        """Speedup and efficiency as they were measured."""
        return _curve(self.sizes, [size.measured for size in self.sizes])

    @property
    def predicted_curve(self) -> tuple[Point, ...] | None:
        """The same as they were predicted, where every size was."""
        parts = [size.predicted for size in self.sizes]
        known = [each for each in parts if each is not None]
        return _curve(self.sizes, known) if len(known) == len(parts) else None

    @property
    def honest(self) -> int:
        """The last number whose added workers each still brought half of one."""
        return honest_worker_count(self.curve)

    @property
    def verdict(self) -> str:
        """What the study says to whoever has to decide, in two sentences."""
        curve = self.curve
        last = curve[-1]
        if len(curve) == 1:
            return f"One size was measured: {_workers(last.workers)}. Nothing can be said of more."
        text = (
            f"{_workers(last.workers)} are {last.speedup / curve[0].speedup:.2f} times as fast as "
            f"{_workers(curve[0].workers)}, an efficiency of {last.efficiency:.0%}. "
        )
        if self.honest == last.workers:
            return text + "Every added worker brought at least half of one: more may still pay."
        why = limit(self.sizes[-1].measured)
        beyond = next(point for point in curve if point.workers > self.honest)
        gain = max(0.0, beyond.marginal_gain)
        return (
            f"{text}Beyond {_workers(self.honest)} an added worker brought {gain:.0%} of one; "
            f"{_workers(last.workers)} {'is' if last.workers == 1 else 'are'} {why.kind}."
        )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count:,} workers"


def _curve(sizes: Sequence[Sized], parts: Sequence[Parts]) -> tuple[Point, ...]:
    times = {size.workers: each.step for size, each in zip(sizes, parts, strict=True)}
    return scaling_curve(times.__getitem__, times)


def serial_share(point: Point, base: Point) -> float | None:
    """Karp and Flatt's serial share of a measured speedup over one worker; else ``None``."""
    if base.workers != 1 or point.workers <= 1:
        return None
    return karp_flatt_serial_share(point.speedup, point.workers)


def study_view(study: Study) -> dict[str, Any]:
    """The study as plain values."""
    curve, guessed = study.curve, study.predicted_curve
    sizes = []
    for index, size in enumerate(study.sizes):
        point = curve[index]
        sizes.append(
            {
                "workers": size.workers,
                "step_seconds": size.measured.step,
                f"{study.unit}_per_second": size.rate(size.measured),
                "speedup": point.speedup,
                "efficiency": point.efficiency,
                "marginal_gain": point.marginal_gain,
                "serial_share": serial_share(point, curve[0]),
                "communication_share": size.communication_share,
                f"cost_per_million_{study.unit}": size.cost_per_million,
                "limited_by": limit(size.measured).kind,
                "measured": size.measured.view(),
                "predicted": None if size.predicted is None else size.predicted.view(),
                "predicted_speedup": guessed[index].speedup if guessed else None,
                "step_error": None
                if size.predicted is None
                else size.predicted.step / size.measured.step - 1.0,
            }
        )
    return {
        "kind": "study",
        "name": study.name,
        "about": dict(study.about),
        "unit": study.unit,
        "baseline_workers": curve[0].workers,
        "honest_workers": study.honest,
        "verdict": study.verdict,
        "no_prediction": study.no_prediction,
        "sizes": sizes,
    }


def study_head(study: Study) -> tuple[str, ...]:
    """What the columns of ``study_rows`` hold."""
    return (
        "workers",
        "step",
        f"{study.unit}/s",
        "speedup",
        "efficiency",
        "communication",
        "predicted",
        "error",
        f"cost per M {study.unit}",
    )


def study_rows(study: Study) -> list[tuple[str, ...]]:
    """The table for people, under ``study_head``."""
    rows: list[tuple[str, ...]] = []
    for size, point in zip(study.sizes, study.curve, strict=True):
        share, cost = size.communication_share, size.cost_per_million
        predicted = size.predicted
        error = None if predicted is None else predicted.step / size.measured.step - 1.0
        rows.append(
            (
                str(size.workers),
                seconds(size.measured.step),
                f"{size.rate(size.measured):,.0f}",
                f"{point.speedup:.2f}",
                f"{point.efficiency:.0%}",
                "–" if share is None else f"{share:.1%}",
                "–" if predicted is None else seconds(predicted.step),
                "–" if error is None else f"{error:+.1%}",
                "–" if cost is None else f"{cost:.4g}",
            )
        )
    return rows
