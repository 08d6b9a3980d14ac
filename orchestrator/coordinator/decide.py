"""What next? The one function through which a run changes.

``decide`` is pure and total: for every state and every event it answers, and never raises.
It knows nothing of Ray, files or clocks; the shell around it journals what it accepts and
carries out what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from orchestrator.coordinator.accounts import booked
from orchestrator.coordinator.actions import Action
from orchestrator.coordinator.answers import Declined
from orchestrator.coordinator.dues import due
from orchestrator.coordinator.events import Event, Opened
from orchestrator.coordinator.past import trained_seconds
from orchestrator.coordinator.reactions import REACTIONS
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState

__all__ = ["Decision", "decide", "due", "replay"]


@dataclass(frozen=True)
class Decision:
    """What follows from an event.

    ``accepted``: journal the event, take ``state``, carry ``actions`` out in order.
    ``ignored``: late or told twice; tell the sender all is well. ``refused``: it contradicts
    what is known. ``fenced``: its sender belongs to an earlier attempt and must go. In the
    last three the state is unchanged, there are no actions, and ``note`` says why.
    """

    state: RunState
    actions: tuple[Action, ...]
    note: str
    verdict: Literal["accepted", "ignored", "refused", "fenced"]

    @property
    def accepted(self) -> bool:
        """Whether the event is to be journaled and the state taken."""
        return self.verdict == "accepted"


def decide(state: RunState, event: Event) -> Decision:
    """What follows from ``event`` in ``state``."""
    fence = _fence(state, event)
    if fence is not None:
        return fence
    told = replace(state, num_events=state.num_events + 1, updated_at_seconds=event.at_seconds)
    answer = REACTIONS[type(event)](told, event)
    if isinstance(answer, Declined):
        return Decision(state, (), answer.reason, answer.verdict)
    after, actions = answer
    moved = after.phase != state.phase or after.attempt != state.attempt
    after = replace(
        after,
        trained_seconds=trained_seconds(state, event),
        phase_since_seconds=event.at_seconds if moved else state.phase_since_seconds,
        ledger=booked(state, after, event),
    )
    return Decision(after, actions, _note(state, after), "accepted")


def replay(events: Iterable[Event], state: RunState | None = None) -> RunState:
    """The state after ``events``, from ``state`` or a run that was never opened.

    Events that would not be accepted change nothing, as when they were live.
    """
    current = state or RunState()
    for event in events:
        current = decide(current, event).state
    return current


def _fence(state: RunState, event: Event) -> Decision | None:
    theirs, ours = event.attempt, state.attempt
    if isinstance(event, Opened):
        if theirs == ours + 1:
            return None
        note = f"attempt {theirs} cannot be opened after attempt {ours}: the next is {ours + 1}"
        return Decision(state, (), note, "fenced" if theirs <= ours else "refused")
    if theirs < ours:
        note = f"attempt {theirs} is fenced: attempt {ours} owns the run"
        return Decision(state, (), note, "fenced")
    if theirs > ours:
        note = f"attempt {theirs} was never opened; the run is in attempt {ours}"
        return Decision(state, (), note, "refused")
    return None


def _note(before: RunState, after: RunState) -> str:
    if after.outcome is not None and after.outcome != before.outcome:
        return after.outcome.message
    if after.attempt != before.attempt:
        cause = f" after a loss ({after.recovering})" if after.recovering else ""
        cause = f" to {after.resize.kind}" if after.resize else cause
        return f"attempt {after.attempt}{cause}: {after.phase}"
    if after.phase != before.phase:
        return f"{before.phase} → {after.phase}"
    if after.committed_step != before.committed_step:
        return f"step {after.committed_step} is committed"
    return f"{after.phase} goes on"
