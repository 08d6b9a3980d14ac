"""What may a reaction to an event say? That a move follows, or that nothing does, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.coordinator.actions import Action
from orchestrator.coordinator.events import BaseEvent
from orchestrator.coordinator.state import RunState

Move = tuple[RunState, tuple[Action, ...]]
"""The state afterwards, and the actions that go with it, in order."""


@dataclass(frozen=True)
class Declined:
    """The event changes nothing. ``ignored``: it is late or told twice, which is normal.
    ``refused``: it contradicts what is known, and its sender must be told."""

    verdict: Literal["ignored", "refused"]
    reason: str


Reaction = Callable[[RunState, Any], Move | Declined]


def unexpected(state: RunState, event: BaseEvent) -> Declined:
    """An event that has no meaning in the present phase."""
    return Declined("ignored", f"{type(event).__name__} means nothing while {state.phase}")
