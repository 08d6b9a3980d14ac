"""Which part of the ledger does each interval belong to?

Each accepted event closes the interval since the one before it, and it is put into the part in
which the run was before the event: once, whatever comes of the event. Durations are differences of
the senders' wall clocks, so that a clock that is behind takes no time, and time that a clock ahead
of the others has claimed is not claimed again.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.ledger import Ledger, Part, commit, let_go, spend, step
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState


def booked(before: RunState, after: RunState, event: ev.BaseEvent) -> Ledger:
    """The ledger after an accepted event."""
    if isinstance(event, ev.Opened):
        ledger = _reopened(before, event.at_seconds)
    else:
        ledger = _passed(before, event)
    if isinstance(event, ev.CheckpointCommitted):
        ledger = commit(ledger, event.ahead_seconds)
    if before.stepping and not after.stepping:
        ledger = let_go(ledger, _what_became_of_it(before, after, event))
    return ledger


def _reopened(before: RunState, at_seconds: float) -> Ledger:
    """Since the last word of the driver before, nobody was there; clocks are read anew."""
    ledger = before.ledger
    away_seconds = ledger.away_seconds
    if before.phase != "new":
        away_seconds += max(0.0, at_seconds - ledger.until_seconds)
    return replace(ledger, away_seconds=away_seconds, until_seconds=at_seconds)


def _passed(before: RunState, event: ev.BaseEvent) -> Ledger:
    ledger = before.ledger
    seconds = max(0.0, event.at_seconds - ledger.until_seconds)
    part = part_of(before)
    if part == "away":
        known = replace(ledger, away_seconds=ledger.away_seconds + seconds)
    elif part == "stepping":
        known = step(ledger, seconds, *_waits(event))
    else:
        known = spend(ledger, part, seconds)
    return replace(
        known,
        until_seconds=max(ledger.until_seconds, event.at_seconds),
        worker_seconds=ledger.worker_seconds + before.workers * seconds,
    )


def _waits(event: ev.BaseEvent) -> tuple[float | None, float | None]:
    if isinstance(event, (ev.Progressed, ev.CheckpointCommitted)):
        return event.stall_seconds, event.checkpoint_seconds
    return None, None


def part_of(state: RunState) -> Part | Literal["away", "stepping"]:
    """What passing time is spent on in this state. ``away``: no driver is there; ``stepping``:
    workers are at work, of which the parts are not known yet."""
    if state.stepping:
        return "stepping"
    if state.phase in ("deploying", "serving"):
        return "serving"
    if state.phase in ("new", "ended"):
        return "away"
    if state.phase == "ending":
        return "ending"
    if state.recovering or state.resize:
        return "recovering"
    if state.phase == "reserving":
        return "queued"
    return "sharding" if state.phase == "sharding" else "starting"


def _what_became_of_it(before: RunState, after: RunState, event: ev.BaseEvent) -> Part:
    """Of time in which workers were at work after their last commit, now that they are gone."""
    if not after.trained and not _left_in_order(before, event):
        return "lost"
    return "recovering" if after.phase == "reserving" else "ending"


def _left_in_order(before: RunState, event: ev.BaseEvent) -> bool:
    """Whether they took no step that is not committed."""
    if not isinstance(event, ev.TrainingEnded):
        return False
    return max(before.step, event.step) <= before.committed_step
