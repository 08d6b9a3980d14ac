"""What does a run's past say about failures? For the interval between its checkpoints.

Durations are differences of the senders' wall clocks, which may jump; they change how often state
is saved and nothing else.
"""

from __future__ import annotations

from statistics import median

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState
from orchestrator.plan.cadence import FailureHistory

_KEPT_RESTARTS = 5


def failure_history(state: RunState) -> FailureHistory:
    """Failures, time of training and the median restart of the whole run, up to now."""
    restarts = state.restart_seconds
    return FailureHistory(
        num_failures=state.num_failures,
        elapsed_seconds=state.trained_seconds,
        restart_seconds=median(restarts) if restarts else None,
    )


def trained_seconds(before: RunState, event: ev.BaseEvent) -> float:
    """How long workers have been at work, with the time since the last event where they were."""
    if isinstance(event, ev.Opened) or not before.stepping:
        return before.trained_seconds
    return before.trained_seconds + max(0.0, event.at_seconds - before.updated_at_seconds)


def failed(state: RunState) -> RunState:
    """A worker group, or the driver that held it, was lost just now."""
    return replace(
        state, num_failures=state.num_failures + 1, lost_at_seconds=state.updated_at_seconds
    )


def repaired(state: RunState) -> RunState:
    """The first step after it is finished."""
    if state.lost_at_seconds is None:
        return state
    took = max(0.0, state.updated_at_seconds - state.lost_at_seconds)
    known = (*state.restart_seconds, took)[-_KEPT_RESTARTS:]
    return replace(state, restart_seconds=known, lost_at_seconds=None)
