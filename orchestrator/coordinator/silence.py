"""Which nodes have said nothing for too long, and what follows?

Pure: from how long each node has been silent to whom to suspect, to clear and to give up. A node
is suspected after ``suspect_after``, so that nothing new is put on it, and given up after twice
that: in between it may have been a blip, and what goes on after one loses nothing. Knows neither
clocks nor how nodes are heard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

PATIENCE = 2.0
"""A node is lost after so many times ``suspect_after``."""

PROBE_SHARE = 0.5
"""A node that has been silent for this share of ``suspect_after`` is asked whether it is there."""


@dataclass(frozen=True)
class Silence:
    """``suspected`` and ``cleared`` nodes are news; ``lost`` ones are said again each time."""

    suspected: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    to_probe: tuple[str, ...] = ()


def judge_silence(
    silent_seconds: Mapping[str, float], suspects: Collection[str], suspect_after_seconds: float
) -> Silence:
    """What is news, given who is suspected already. ``silent_seconds`` has every node that is to
    be heard; suspects that are not in it are left alone."""
    limit = suspect_after_seconds
    return Silence(
        suspected=tuple(
            node for node, s in silent_seconds.items() if s >= limit and node not in suspects
        ),
        cleared=tuple(node for node, s in silent_seconds.items() if s < limit and node in suspects),
        lost=tuple(node for node, s in silent_seconds.items() if s >= PATIENCE * limit),
        to_probe=tuple(node for node, s in silent_seconds.items() if s >= PROBE_SHARE * limit),
    )
