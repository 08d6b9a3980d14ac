"""How is a gang reserved on Ray? As one placement group: all bundles or none.

Every bundle is pinned to the node that was decided on. The placement group is named after the run
and its attempt, so that whoever comes later finds it without having made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import Gang

_POLL_SECONDS = 0.1
_REMOVAL_TIMEOUT_SECONDS = 10.0


def gang_name(run: str, attempt: int) -> str:
    """The name of the placement group of one attempt."""
    return f"axis-{run}-attempt-{attempt:04d}"


def place(
    name: str,
    assignment: Assignment,
    strategy: str,
    timeout_seconds: float,
    withdrawn: Callable[[], bool] = lambda: False,
) -> PlacementGroup | None:
    """Reserve every bundle where it was assigned, or none.

    ``None``, with everything given back, when somebody else took the room first: what is not
    placed within ``timeout_seconds`` does not fit any more. The same when it is ``withdrawn``.
    """
    release(name)
    group = placement_group(
        [dict(bundle) for bundle in assignment.gang.bundles],
        strategy=strategy,
        name=name,
        lifetime="detached",
        bundle_label_selector=[dict(pins) for pins in assignment.pins()],
    )
    deadline = time.monotonic() + timeout_seconds
    while not group.wait(_POLL_SECONDS):
        if time.monotonic() >= deadline or withdrawn() or find(name) is None:
            release(name)
            return None
    return group


def release(name: str) -> None:
    """Give back the placement group of that name, if there is one; what runs inside is killed."""
    group = find(name)
    if group is None:
        return
    remove_placement_group(group)
    deadline = time.monotonic() + _REMOVAL_TIMEOUT_SECONDS
    while find(name) is not None and time.monotonic() < deadline:
        time.sleep(0.02)


def find(name: str) -> PlacementGroup | None:
    """The placement group of that name, placed or waiting; ``None`` when there is none."""
    try:
        return get_placement_group(name)
    except ValueError:
        return None


def nodes_of(group: PlacementGroup) -> tuple[str, ...]:
    """The node of each bundle; empty for a group that is not placed."""
    found = placement_group_table(group).get("bundles_to_node_id") or {}
    nodes = tuple(str(found[index]) for index in sorted(found))
    return nodes if all(nodes) else ()


def describe(gang: Gang) -> str:
    """``2 × {CPU: 1}``: equal bundles counted together, in order of first appearance."""
    counts: dict[str, int] = {}
    for bundle in gang.bundles:
        text = ", ".join(f"{name}: {count:g}" for name, count in sorted(bundle.items()))
        counts[text] = counts.get(text, 0) + 1
    return " + ".join(f"{count} × {{{text}}}" for text, count in counts.items())
