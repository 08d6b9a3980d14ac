"""What did a run's training come to, in the words of a prediction?"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.planner.forecast.lines import Totals
from orchestrator.planner.forecast.parts import Parts


def measured_parts(
    *,
    step_seconds: float,
    data_seconds: float,
    pause_seconds: float,
    exchange_share: float | None,
    waiting_share: float | None,
    by_dimension: Mapping[str, float],
    pipelined: bool,
) -> Parts:
    """The parts of a step that was measured. Shares are of the step; ``None``: nobody could tell.

    What even the busiest worker waits is communication, or in a pipeline its bubble, too: there
    ``by_dimension``, what was predicted of communication, says how much of it is not. What was
    predicted for each dimension divides what was measured of all.
    """
    apart = exchange_share is not None and waiting_share is not None
    exchange = (exchange_share or 0.0) * step_seconds
    waiting = (waiting_share or 0.0) * step_seconds
    predicted = sum(by_dimension.values())
    if pipelined:
        communication = min(exchange, predicted)
        waiting, exchange = waiting + exchange - communication, communication
    split = (
        {name: part / predicted * exchange for name, part in by_dimension.items()}
        if predicted > 0 and apart
        else {}
    )
    return Parts(
        compute=max(0.0, step_seconds - exchange - waiting - data_seconds),
        communication=exchange,
        waiting=waiting,
        data=data_seconds,
        checkpoint=pause_seconds,
        by_dimension=split,
        apart=apart,
    )


def measured_totals(
    parts: Parts, tokens: int | None, training_seconds: float, hourly: float | None
) -> Totals:
    """What the whole came to; ``tokens`` of a step where they are known, ``hourly`` the price of
    all workers for an hour."""
    return Totals(
        parts=parts,
        tokens_per_second=None if tokens is None else tokens / parts.step,
        training_seconds=training_seconds,
        cost=None if hourly is None else hourly * training_seconds / 3600.0,
    )
