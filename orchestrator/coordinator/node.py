"""What is a node, seen from a decision about where things go?

A value that the shell reads from the cluster. Knows nothing of what lies on the node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

Free = Mapping[str, Mapping[str, float]]
"""What nobody holds at the moment, in Ray's words, per node id."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster: what it offers in Ray's words, and whether it is usable."""

    id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    alive: bool = True


def usable(nodes: Sequence[Node], excluded: Collection[str] = ()) -> list[Node]:
    """The nodes that are alive and not excluded, in the order given."""
    return [node for node in nodes if node.alive and node.id not in excluded]


def left_out(nodes: Sequence[Node], excluded: Collection[str]) -> str:
    """A sentence that names the live nodes that are excluded; empty if none is."""
    names = sorted(node.id for node in nodes if node.alive and node.id in excluded)
    if not names:
        return ""
    return f"left out as suspect, draining or given up: {', '.join(names)}"
