"""The table that a prediction and a measurement share: one line a quantity, and its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planner.cost.estimate_text import seconds
from orchestrator.planner.forecast.parts import MESH_NAMES, Parts

NOTHING_SECONDS = 1e-6
"""Below it a measured time is none, and an error relative to it says nothing."""


@dataclass(frozen=True)
class Line:
    """One quantity: ``unit`` is ``s``, ``tokens/s``, ``bytes`` or ``money``; ``None``: unknown."""

    name: str
    unit: str
    predicted: float | None
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1; ``None`` where one is missing or nothing was spent."""
        if self.predicted is None or self.measured is None:
            return None
        if abs(self.measured) < (NOTHING_SECONDS if self.unit == "s" else 1e-12):
            return None
        return self.predicted / self.measured - 1.0

    def view(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "unit": self.unit,
            "predicted": self.predicted,
            "measured": self.measured,
            "error": self.error,
        }

    def cells(self) -> tuple[str, str, str, str]:
        """Name, both figures and the error as a person reads them; a dash for what is not known."""
        error = "–" if self.error is None else f"{self.error:+.1%}"
        return self.name, shown(self.predicted, self.unit), shown(self.measured, self.unit), error


def shown(value: float | None, unit: str) -> str:
    """A figure with its unit."""
    if value is None:
        return "–"
    if unit == "s":
        return "0 s" if value < NOTHING_SECONDS else seconds(value)
    if unit == "bytes":
        return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"
    if unit == "money":
        return f"{value:.4g}"
    return f"{value:,.0f} {unit}"


@dataclass(frozen=True)
class Totals:
    """What a whole training comes to, beside the parts of a step. ``None``: not known."""

    parts: Parts
    tokens_per_second: float | None
    training_seconds: float | None
    memory_bytes: float | None = None
    cost: float | None = None


def table(predicted: Totals | None, measured: Totals | None) -> tuple[Line, ...]:
    """The lines, in the order of a step, with what is known of either."""
    found = [
        _line("step", "s", predicted, measured, lambda t: t.parts.step),
        _line("computing", "s", predicted, measured, _apart(lambda p: p.compute)),
        _line(
            "communication, exposed", "s", predicted, measured, _apart(lambda p: p.communication)
        ),
        *_by_dimension(predicted, measured),
        _line("waiting for other workers", "s", predicted, measured, _apart(lambda p: p.waiting)),
        _line("waiting for samples", "s", predicted, measured, lambda t: t.parts.data),
        _line(
            "checkpoints, a step's share", "s", predicted, measured, lambda t: t.parts.checkpoint
        ),
        _line("throughput", "tokens/s", predicted, measured, lambda t: t.tokens_per_second),
        _line("training, in all", "s", predicted, measured, lambda t: t.training_seconds),
        _line("memory of a worker", "bytes", predicted, measured, lambda t: t.memory_bytes),
        _line("cost", "money", predicted, measured, lambda t: t.cost),
    ]
    return tuple(each for each in found if (each.predicted, each.measured) != (None, None))


def _apart(what: Callable[[Parts], float]) -> Callable[[Totals], float | None]:
    """A part that is known only where parts could be told apart."""
    return lambda totals: what(totals.parts) if totals.parts.apart else None


def _line(
    name: str,
    unit: str,
    predicted: Totals | None,
    measured: Totals | None,
    what: Callable[[Totals], float | None],
) -> Line:
    return Line(
        name,
        unit,
        None if predicted is None else what(predicted),
        None if measured is None else what(measured),
    )


def _by_dimension(predicted: Totals | None, measured: Totals | None) -> list[Line]:
    """A line for each dimension, where there is more than one."""
    splits = [{} if each is None else each.parts.by_dimension for each in (predicted, measured)]
    names = [name for name in MESH_NAMES if any(name in split for split in splits)]
    if len(names) < 2:
        return []
    return [
        Line(f"  by {MESH_NAMES[name]}", "s", splits[0].get(name), splits[1].get(name))
        for name in names
    ]


def rows(lines: Sequence[Line]) -> tuple[tuple[str, str, str, str], ...]:
    """All lines for people."""
    return tuple(line.cells() for line in lines)


def views(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
    """All lines for programs."""
    return [line.view() for line in lines]
