"""How is a gang reserved on Ray? As one placement group: all bundles or none.

The placement group is named after the run and its attempt, so that whoever comes later
finds it without having made it.
"""

from __future__ import annotations

import time

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    remove_placement_group,
)

from orchestrator.coordinator.placement import Gang
from orchestrator.errors import PlacementTimeout

_POLL_SECONDS = 0.25
_REMOVAL_TIMEOUT_SECONDS = 10.0


def gang_name(run: str, attempt: int) -> str:
    """The name of the placement group of one attempt."""
    return f"axis-{run}-attempt-{attempt:04d}"


def place(name: str, gang: Gang, strategy: str, timeout_seconds: float) -> PlacementGroup:
    """Reserve all bundles of ``gang``, or none.

    Raises ``PlacementTimeout`` after ``timeout_seconds``, with everything given back, saying
    what was asked for and what the cluster had free.
    """
    release(name)
    group = placement_group(
        [dict(bundle) for bundle in gang.bundles],
        strategy=strategy,
        name=name,
        lifetime="detached",
    )
    deadline = time.monotonic() + timeout_seconds
    while not group.wait(_POLL_SECONDS):
        if find(name) is None:
            raise PlacementTimeout(f"the reservation {name} was withdrawn while it waited")
        if time.monotonic() >= deadline:
            free = {k: v for k, v in ray.available_resources().items() if k in {"CPU", "GPU"}}
            release(name)
            raise PlacementTimeout(
                f"the gang was not placed within {timeout_seconds:g} s: it needs "
                f"{describe(gang)} at once; free at the end: {free or 'nothing'}"
            )
    return group


def release(name: str) -> None:
    """Give back the placement group of that name, if there is one; what runs inside is killed."""
    group = find(name)
    if group is None:
        return
    remove_placement_group(group)
    deadline = time.monotonic() + _REMOVAL_TIMEOUT_SECONDS
    while find(name) is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def find(name: str) -> PlacementGroup | None:
    """The placement group of that name, placed or waiting; ``None`` when there is none."""
    try:
        return get_placement_group(name)
    except ValueError:
        return None


def describe(gang: Gang) -> str:
    """``2 × {CPU: 1}``: equal bundles counted together, in order of first appearance."""
    counts: dict[str, int] = {}
    for bundle in gang.bundles:
        text = ", ".join(f"{name}: {count:g}" for name, count in sorted(bundle.items()))
        counts[text] = counts.get(text, 0) + 1
    return " + ".join(f"{count} × {{{text}}}" for text, count in counts.items())
