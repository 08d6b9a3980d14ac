"""How are two series of measurements compared, and how is that shown?

Pure. A comparison holds every repetition; its figures are medians, since a machine has bad
moments, and the ratio of the medians is held against the goal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """The orchestrator's repetitions beside those of ``against``, in the order they were taken.

    ``goal`` bounds the ratio axis / by hand: from below where more is better, else from above.
    Without a goal the comparison is for information.
    """

    what: str
    unit: str
    axis: Sequence[float]
    by_hand: Sequence[float]
    against: str
    goal: float | None = None
    more_is_better: bool = True

    @property
    def ratio(self) -> float:
        """Median over median."""
        return median(self.axis) / median(self.by_hand)

    @property
    def pair_ratios(self) -> list[float]:
        """The ratio of each repetition, whose two sides were measured one after the other."""
        return [a / b for a, b in zip(self.axis, self.by_hand, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; ``None`` without one."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.more_is_better else self.ratio <= self.goal

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "what": self.what,
            "unit": self.unit,
            "against": self.against,
            "axis": median(self.axis),
            "by_hand": median(self.by_hand),
            "ratio": self.ratio,
            "goal": self.goal,
            "more_is_better": self.more_is_better,
            "met": self.met,
            "runs": {"axis": list(self.axis), "by_hand": list(self.by_hand)},
        }


@dataclass(frozen=True)
class Outcome:
    """What a benchmark came to: comparisons, settings that explain them, and further figures."""

    title: str
    comparisons: Sequence[Comparison]
    settings: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


_HEADER = ("measured", "unit", "axis", "by hand", "ratio", "pairs", "goal", "")
_RIGHT = (2, 3, 4)


def table(comparisons: Sequence[Comparison]) -> str:
    """A Markdown table, padded so that it reads well as plain text too."""
    rows = [_HEADER, *(_row(comparison) for comparison in comparisons)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(_HEADER))]
    rule = ["-" * (w - 1) + ":" if i in _RIGHT else "-" * w for i, w in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in (rows[0], tuple(rule), *rows[1:]))


def render(outcome: Outcome) -> str:
    """Title, table and notes."""
    notes = [f"- {note}" for note in outcome.notes]
    return "\n".join([f"## {outcome.title}", "", table(outcome.comparisons), "", *notes]).rstrip()


def _row(c: Comparison) -> tuple[str, ...]:
    sign = "≥" if c.more_is_better else "≤"
    verdict = {None: "", True: "met", False: "MISSED"}[c.met]
    return (
        f"{c.what}, against {c.against}",
        c.unit,
        figure(median(c.axis)),
        figure(median(c.by_hand)),
        figure(c.ratio),
        f"{figure(min(c.pair_ratios))}…{figure(max(c.pair_ratios))}",
        f"{sign} {c.goal:g}" if c.goal is not None else "",
        verdict,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if i in _RIGHT else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def figure(value: float) -> str:
    """Three digits that count: ``41,300``, ``12.3``, ``0.987``."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
