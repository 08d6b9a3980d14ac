"""What does a run hold, and in which order is it given back?

Knows neither phases nor events: from what the state says is held to the actions after which it
is not.
"""

from __future__ import annotations

from orchestrator.coordinator.actions import (
    Action,
    CancelStore,
    KillTraining,
    ReleaseGang,
    TearDown,
)
from orchestrator.coordinator.answers import Move
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState, Wait

GRACE_SECONDS = 10.0
"""How much longer a wait lasts than the deadline given to whoever carries the action out: they
know better what was missing, so their word should come first."""


def policy_in(state: RunState) -> RunPolicy:
    """The policy of an opened run. Raises ``ValueError`` for one that was never opened."""
    if state.policy is None:
        raise ValueError("the run was never opened")
    return state.policy


def waiting(state: RunState, what: str, timeout_seconds: float) -> Wait:
    """A wait that begins with the event being handled."""
    return Wait(what=what, timeout_seconds=timeout_seconds, since=state.num_events)


def halt(state: RunState) -> tuple[Action, ...]:
    """Actions after which no data task and no worker is left."""
    if state.busy == "workers":
        return (KillTraining(attempt=state.attempt),)
    if state.busy == "data":
        return (CancelStore(timeout_seconds=policy_in(state).stop_timeout_seconds),)
    return ()


def release(state: RunState) -> tuple[Action, ...]:
    """Actions after which no bundle is reserved."""
    return () if state.gang == "none" else (ReleaseGang(),)


def released(state: RunState) -> RunState:
    """The state in which no bundle is reserved, nor asked for."""
    return replace(state, gang="none", workers=0, nodes=(), queue=None)


def take_down(state: RunState) -> tuple[Action, ...]:
    """Actions after which no app is up but one that was left on purpose."""
    if state.app != "up":
        return ()
    return (TearDown(timeout_seconds=policy_in(state).stop_timeout_seconds),)


def clear(state: RunState) -> Move:
    """Give back whatever is held, in the order in which nothing is orphaned."""
    actions = (*halt(state), *take_down(state), *release(state))
    app = "none" if state.app == "up" else state.app
    return replace(released(state), busy="none", app=app), actions
