"""How does a run come by its gang? Asked for whole, tried again, and given up in time."""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move, unexpected
from orchestrator.coordinator.dues import backoff_seconds, entry, wanted
from orchestrator.coordinator.ending import end
from orchestrator.coordinator.holding import GRACE_SECONDS, clear, policy_in, waiting
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import QueuePlace, RunState


def reserve(state: RunState, tried: int = 0) -> Move:
    """Ask for the gang, after ``tried`` tries; what is still held is given back first."""
    before, cleared = clear(state)
    seconds = policy_in(state).gang_timeout_seconds + backoff_seconds(tried) + GRACE_SECONDS
    after = replace(
        before,
        phase="reserving",
        gang="asked",
        gang_tried=tried,
        wait=waiting(state, "the gang to be placed whole", seconds),
    )
    return after, (*cleared, *entry(after))


def restart(state: RunState) -> Move:
    """Open the next attempt within this driver and reserve the gang anew, whole."""
    before, cleared = clear(state)
    opened = replace(
        before,
        attempt=state.attempt + 1,
        started=False,
        drain=None,
        step=before.committed_step,
    )
    after, further = reserve(opened)
    return after, (*cleared, *further)


def on_gang_timed_out(state: RunState, event: ev.GangTimedOut) -> Move | Declined:
    """Not placed in time: release everything; try again, or end with exit code 4."""
    if state.phase != "reserving":
        return unexpected(state, event)
    if event.tried != state.gang_tried:
        return Declined("ignored", f"try {event.tried + 1} is over: this is {state.gang_tried + 1}")
    tried, tries = state.gang_tried + 1, policy_in(state).gang_attempts
    if tried < tries:
        return reserve(state, tried)
    counted = f" (try {tried} of coordination.gang.attempts={tries})" if tries > 1 else ""
    return end(state, 4, event.message + counted)


def on_queued(state: RunState, event: ev.Queued) -> Move | Declined:
    """Remember the place; the wait for the gang goes on."""
    if state.phase != "reserving":
        return unexpected(state, event)
    place = QueuePlace(position=event.position, of=event.of, why=event.why)
    if place == state.queue:
        return Declined("ignored", "the run's place in the queue is known")
    return replace(state, queue=place), ()


def misfit(state: RunState, event: ev.GangPlaced) -> str:
    """Why this is not the gang that was asked for; empty if it is."""
    allowed = wanted(state) or (0,)
    if event.workers in allowed:
        return ""
    asked = " or ".join(str(count) for count in allowed)
    return f"a gang of {event.workers} workers; asked for {asked}"
