"""Which of a run's sizes fits in these rooms?

Asks ``assign`` for one size after another. Does not know who else waits.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.coordinator.assign import assign_in
from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Holding, Waiting
from orchestrator.coordinator.placement import Option
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import Tree


class Fit(NamedTuple):
    """A size, and where it lies."""

    option: Option
    assignment: Assignment


def best_fit(entry: Waiting | Holding, rooms: Rooms, tree: Tree) -> Fit | None:
    """The largest size whose tensor·pipeline groups all lie inside a node; where none does, the
    largest at all."""
    found: Fit | None = None
    for option in entry.options:
        place = assign_in(option.gang, option.mesh, rooms, tree, entry.placement)
        if not isinstance(place, Assignment):
            continue
        if not place.price:
            return Fit(option, place)
        found = found or Fit(option, place)
    return found


def smallest_fit(entry: Waiting | Holding, rooms: Rooms, tree: Tree) -> Fit | None:
    """The run with as few workers as it can go on with."""
    for option in smallest(entry):
        place = assign_in(option.gang, option.mesh, rooms, tree, entry.placement)
        if isinstance(place, Assignment):
            return Fit(option, place)
    return None


def fits_somehow(entry: Waiting | Holding, rooms: Rooms, tree: Tree) -> bool:
    """Whether ``smallest_fit`` finds something, without finding it where counting will do: bundles
    that are all alike fit if there are as many rooms."""
    if entry.placement == "prefer":
        for option in smallest(entry):
            if len(option.gang.counts) == 1:
                ((need, count),) = option.gang.counts.items()
                if sum(rooms.capacity(need)) >= count:
                    return True
        if all(len(option.gang.counts) == 1 for option in smallest(entry)):
            return False
    return smallest_fit(entry, rooms, tree) is not None


def smallest(entry: Waiting | Holding) -> tuple[Option, ...]:
    """The ways to carry the run out with the fewest workers."""
    fewest = entry.options[-1].workers
    return tuple(option for option in entry.options if option.workers == fewest)
