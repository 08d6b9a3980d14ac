"""Who waits for nodes, who holds them, and what was decided about each?

Values of the queue of one coordinator. Nothing is decided here (``queue``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.coordinator.assign import Placement
from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.needs import Shape
from orchestrator.coordinator.placement import Option


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What every run in the queue has. ``arrived`` numbers runs in the order in which they came.

    ``options`` are the ways to carry the run out, largest first (``placement.options_of``);
    ``topology`` and ``placement`` are the plan's; ``excluded`` are nodes that this run avoids.
    """

    run: str
    priority: int = 0
    arrived: int = 0
    options: tuple[Option, ...] = ()
    topology: tuple[str, ...] = ()
    placement: Placement = "prefer"
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Waiting(_Entry):
    """A run that holds nothing and wants a gang.

    ``reserved`` is what ``Schedule.reservations`` had for it the last time: handing it back keeps
    a reservation where it is for as long as that is best.
    """

    waited_seconds: float = 0.0
    reserved: Assignment | None = None

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"run {self.run} waits, but for no gang")

    @property
    def turn(self) -> tuple[int, int, str]:
        """Sorts waiting runs: by priority, then by arrival."""
        return (-self.priority, self.arrived, self.run)


@dataclass(frozen=True, kw_only=True)
class Holding(_Entry):
    """A run whose gang lies on nodes. Without further ``options`` it never changes its size.

    ``yielding`` is the number of workers that it was already asked to shrink to.
    """

    gang: Gang
    nodes: tuple[str, ...]
    yielding: int | None = None

    @property
    def workers(self) -> int:
        """K: the workers that it has now."""
        return self.gang.workers

    @cached_property
    def placed(self) -> tuple[tuple[str, Shape], ...]:
        """The node and the shape of each bundle."""
        return tuple(zip(self.nodes, (need.shape for need in self.gang.needs), strict=True))


@dataclass(frozen=True)
class Claim:
    """What a run has given back for a moment and nobody else may take: for its replicas, which
    Serve places itself, or for its own restart."""

    run: str
    gang: Gang
    nodes: tuple[str, ...]

    @cached_property
    def placed(self) -> tuple[tuple[str, Shape], ...]:
        """The node and the shape of each bundle."""
        return tuple(zip(self.nodes, (need.shape for need in self.gang.needs), strict=True))


@dataclass(frozen=True)
class Grant:
    """A waiting run may have its gang now, where ``assignment`` says."""

    run: str
    option: Option
    assignment: Assignment


@dataclass(frozen=True)
class Shrink:
    """A run is to go on with fewer workers, to make room ``room_for`` another.

    ``assignment`` is where it would lie then: to be claimed for it (``Claim``) while it restarts.
    """

    run: str
    workers: int
    assignment: Assignment
    room_for: str


@dataclass(frozen=True)
class Grow:
    """A run may have more workers, if it restarts; nothing is set aside for it until then."""

    run: str
    workers: int
    assignment: Assignment


@dataclass(frozen=True)
class Position:
    """Where a run stands among those that go on waiting, and why it waits."""

    run: str
    place: int
    of: int
    why: str

    def render(self) -> str:
        """``2nd of 3: needs 4 × {CPU: 1}; 2 are free; run a (priority 0) holds 2``."""
        return f"{_ordinal(self.place)} of {self.of}: {self.why}"


@dataclass(frozen=True)
class Schedule:
    """What is decided for everybody at one moment.

    ``reservations`` say where a run that goes on waiting is to lie, and that nobody later may
    take what is free of it.
    """

    grants: tuple[Grant, ...] = ()
    shrinks: tuple[Shrink, ...] = ()
    grows: tuple[Grow, ...] = ()
    positions: tuple[Position, ...] = ()
    reservations: Mapping[str, Assignment] = field(default_factory=dict)


def _ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
