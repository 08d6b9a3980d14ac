"""How long did each phase take? Stretches of time from the run's own events.

Folds the journal as the coordinator did. Times are the senders' wall clocks: good for people,
never used to decide. The end of the last stretch is the last event known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.events import Event
from orchestrator.coordinator.policy import Cause
from orchestrator.coordinator.state import Phase, RunState


@dataclass(frozen=True)
class Stretch:
    """A phase of one attempt; ``recovering`` names the loss that was being repaired."""

    phase: Phase
    attempt: int
    start_seconds: float
    stop_seconds: float
    recovering: Cause | None = None

    @property
    def seconds(self) -> float:
        """How long it lasted; 0 where clocks of two senders disagree."""
        return max(0.0, self.stop_seconds - self.start_seconds)


@dataclass(frozen=True)
class History:
    """A run's past: every accepted event that is kept, its stretches, and where it stands.

    Between two attempts lies time in which nobody carried the run out; it is in no stretch.
    ``before`` is where the run stood before the first of the events: of a very long run the first
    ones were removed, and what they came to is all that is known of them.
    """

    state: RunState
    events: tuple[Event, ...]
    stretches: tuple[Stretch, ...]
    before: RunState = field(default_factory=RunState)


def history(events: Iterable[Event], before: RunState | None = None) -> History:
    """Fold ``events`` into the run's past, from its beginning or from ``before``."""
    first = before or RunState()
    state, kept, found = first, [], list[Stretch]()
    for event in events:
        decision = decide(state, event)
        if not decision.accepted:
            continue
        kept.append(event)
        after = decision.state
        if found and event.kind != "opened":
            found[-1] = replace(found[-1], stop_seconds=event.at_seconds)
        if _turned(state, after) or not found:
            at = event.at_seconds
            found.append(Stretch(after.phase, after.attempt, at, at, after.recovering))
        state = after
    lasting = tuple(each for each in found if each.phase != "ended")
    return History(state, tuple(kept), lasting, first)


def _turned(before: RunState, after: RunState) -> bool:
    key = (before.phase, before.attempt, before.recovering)
    return key != (after.phase, after.attempt, after.recovering)
