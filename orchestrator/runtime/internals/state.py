"""What does Ray know of nodes and of the replicas of Serve, beyond what it tells everybody?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray._private.state
import ray._private.worker

HEAD_NODE_RESOURCE = "node:__internal_head__"
"""The resource that Ray puts on the head node alone."""


def free_by_node() -> dict[str, dict[str, float]]:
    """What nobody holds of each node, in Ray's words; some tenths of a second old."""
    reported = ray._private.state.available_resources_per_node()
    return {
        str(node): {
            name: float(count)
            for name, count in resources.items()
            # Bundles show up as resources of their own, named after their placement group.
            if "_group_" not in name and not name.startswith(("node:", "object_store_memory"))
        }
        for node, resources in reported.items()
    }


def draining_nodes() -> dict[str, float]:
    """The nodes that Ray was told to drain, and at which second of the wall clock they go (0: it
    was not said)."""
    reported = ray._private.state.state.get_draining_nodes() or {}
    return {str(node): deadline_ms / 1e3 for node, deadline_ms in reported.items()}


@dataclass(frozen=True)
class Replicas:
    """How many of Serve's replicas of an application have been asked for, and how many of them
    have no place yet, or one whose process is still starting."""

    num_asked: int
    num_waiting: int


def replicas_of(app: str) -> Replicas:
    """What Ray knows of the replicas of an application, by the names that Serve gives them."""
    table = ray._private.state.state.actor_table(None)
    found = [
        actor
        for actor in table.values()
        if str(actor["Name"]).startswith(f"SERVE_REPLICA::{app}#") and actor["State"] != "DEAD"
    ]
    # A node is named as soon as it is asked; a process there is only when it has granted the place.
    waiting = [actor for actor in found if not actor["Pid"]]
    return Replicas(len(found), len(waiting))


def redirect_messages(sink: Callable[[str], None]) -> None:
    """Send what Ray prints on the driver's standard output about the cluster to ``sink``.

    Ray prints such messages even with ``log_to_driver=False``; standard output is ours.
    """

    def take(data: dict[str, Any], ignore_prefix: bool = False) -> None:  # noqa: ARG001
        sink(f"{data.get('pid', 'ray')}: " + "\n".join(map(str, data.get("lines", ()))))

    ray._private.worker.print_to_stdstream = take
