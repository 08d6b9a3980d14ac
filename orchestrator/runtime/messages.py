"""What do drivers and workers say to the coordinator, and what do they hear?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.coordinator.actions import Action
from orchestrator.coordinator.state import RunState


@dataclass(frozen=True)
class RunRef:
    """Which run is meant, and where its journal lies."""

    name: str
    uri: str


@dataclass(frozen=True)
class Reply:
    """What became of an event, and what the driver is to do next, in order."""

    state: RunState
    actions: tuple[Action, ...]
    verdict: str
    note: str


@dataclass(frozen=True)
class Pulse:
    """Where a run stands right now. ``records`` are the step records since the last pulse."""

    state: RunState
    actions: tuple[Action, ...]
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Directive:
    """What a worker is told when it reports."""

    stop: bool = False
    fenced: bool = False
    explain: bool = False
    """Say where you are: another worker takes too long."""
    leave_at_checkpoint: bool = False
    """Leave with the next checkpoint instead of going on."""
