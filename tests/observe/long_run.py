"""Short runs in which everything happens often."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.long_run import POLICY, Rates, long_run
from orchestrator.coordinator.events import Event
from orchestrator.coordinator.state import RunState

__all__ = ["POLICY", "told"]

OFTEN = Rates(losses=0.04, drivers=0.05, checkpoints=0.4, not_numbers=0.5)


def told(seed: int, num_events: int) -> Iterator[tuple[Event, RunState]]:
    """``num_events`` accepted events with the state after each."""
    return long_run(num_events, seed, OFTEN)
