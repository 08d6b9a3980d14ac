"""What does it cost to train, in money and in time?

Only from prices that somebody stated: without one there is no cost in the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.planner.cost.case import Case


@dataclass(frozen=True, slots=True)
class Money:
    """Cost and time to finish; ``None`` where price or tokens were not stated."""

    per_million_tokens: float | None
    total: float | None
    seconds_to_finish: float | None

    def view(self) -> dict[str, Any]:
        """As plain values, without what is not known."""
        named = {
            "cost_per_million_tokens": self.per_million_tokens,
            "cost_to_finish": self.total,
            "seconds_to_finish": self.seconds_to_finish,
        }
        return {name: value for name, value in named.items() if value is not None}


def money(
    case: Case, step_seconds: float, price_per_device_hour: float | None, tokens: float | None
) -> Money:
    """Price · devices · hours, per million tokens and for all ``tokens``; no failures in it."""
    work = case.work
    rate = work.global_batch * work.seq_len / step_seconds
    finish = tokens / rate if tokens else None
    if price_per_device_hour is None:
        return Money(None, None, finish)
    per_second = price_per_device_hour * case.degrees.size / 3600.0
    total = per_second * finish if finish is not None else None
    return Money(per_second / rate * 1e6, total, finish)
