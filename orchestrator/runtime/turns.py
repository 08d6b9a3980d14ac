"""What does the scheduler remember of each run: that it waits, holds, or will be back?

Values of this process, and how the queue sees them. Nothing here asks the cluster.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Holding, Position, Shrink, Waiting
from orchestrator.coordinator.placement import Option
from orchestrator.plan.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A run wants a gang of one of ``workers``, within ``timeout_seconds``.

    ``repairing``: nodes may still come back, so that what could never fit now is waited for.
    """

    uri: str
    plan: Plan
    attempt: int
    workers: tuple[int, ...]
    strategy: str
    timeout_seconds: float
    backoff_seconds: float = 0.0
    excluded: frozenset[str] = frozenset()
    repairing: bool = False


@dataclass
class Turn:
    """A run that waits. ``label`` is its name in the queue, ``arrived`` its number there."""

    ask: Ask
    label: str
    arrived: int
    options: tuple[Option, ...]
    since: float
    granted: Assignment | None = None
    reserved: Assignment | None = None
    position: Position | None = None
    withdrawn: threading.Event = field(default_factory=threading.Event)

    def waiting(self, now: float) -> Waiting:
        """As the queue sees it."""
        asked = self.ask.plan.coordination
        return Waiting(
            run=self.label,
            priority=asked.priority,
            arrived=self.arrived,
            options=self.options,
            topology=asked.gang.topology,
            placement=asked.gang.placement,
            excluded=self.ask.excluded,
            waited_seconds=now - self.since,
            reserved=self.reserved,
        )


@dataclass
class Held:
    """A run that has its gang, and the sizes that it could have instead."""

    plan: Plan
    label: str
    arrived: int
    assignment: Assignment
    options: tuple[Option, ...]
    since: float
    excluded: frozenset[str] = frozenset()
    shrink: Shrink | None = None
    offered_at: float = 0.0

    def holding(self) -> Holding:
        """As the queue sees it."""
        asked, gang = self.plan.coordination, self.assignment.gang
        return Holding(
            run=self.label,
            priority=asked.priority,
            arrived=self.arrived,
            options=self.options if gang.workers else (),
            topology=asked.gang.topology,
            placement=asked.gang.placement,
            excluded=self.excluded,
            gang=gang,
            nodes=self.assignment.nodes,
            yielding=self.shrink.workers if self.shrink else None,
        )


@dataclass
class Kept:
    """What a run has given back and will want again."""

    label: str
    assignment: Assignment
    until: float
