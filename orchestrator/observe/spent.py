"""Where did the time of a run go, in words and figures for people?

From the ledger alone; no clock, no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.coordinator.ledger import PARTS, Ledger
from orchestrator.observe.wording import format_seconds

_WORDS = {"data_stall": "waiting for data", "lost": "lost work", "useful": "useful steps"}
_SHORTEST_SECONDS = 0.05


def time_rows(ledger: Ledger) -> list[tuple[str, float, float]]:
    """Part, seconds, and share of the whole, of every part that took any time; what is not known
    to be useful or lost yet comes last."""
    whole = ledger.wall_seconds
    rows = [(_WORDS.get(part, part), ledger.seconds(part)) for part in PARTS]
    rows.append(("not committed yet", ledger.held_seconds))
    return [
        (name, seconds, seconds / whole) for name, seconds in rows if seconds >= _SHORTEST_SECONDS
    ]


def goodput_line(ledger: Ledger, price_per_hour: float | None) -> str:
    """``62 % of 1 min 20 s went into steps that count; 0.04 worker-hours``, and their cost where
    the plan says what one costs."""
    goodput = ledger.goodput
    if goodput is None:
        return ""
    hours = ledger.worker_seconds / 3600
    whole = format_seconds(ledger.wall_seconds)
    text = f"{goodput:.0%} of {whole} went into steps that count; {hours:.3g} worker-hours"
    if price_per_hour is None:
        return text
    return f"{text}, which cost {ledger.cost(price_per_hour):.4g} at {price_per_hour:g} each"


def ledger_dict(ledger: Ledger, price_per_hour: float | None) -> Mapping[str, Any]:
    """The same for programs: seconds by part, the whole, goodput and cost."""
    return {
        **{f"{part}_seconds": ledger.seconds(part) for part in PARTS},
        "uncommitted_seconds": ledger.held_seconds,
        "wall_seconds": ledger.wall_seconds,
        "away_seconds": ledger.away_seconds,
        "worker_seconds": ledger.worker_seconds,
        "goodput": ledger.goodput,
        "cost": None if price_per_hour is None else ledger.cost(price_per_hour),
    }
