"""Which node's link is slower than the others'?

Pure: from how long a payload of known size took to each node and back to whom to name. A slow link
slows every worker alike, and so does not show in what they say of their own work. Does not know
how the payload travels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from orchestrator.coordinator.stragglers import AGAIN_SECONDS, Slow

SLOW_RATIO = 5.0
"""So much longer than to the median of the other nodes."""
LEAST_SECONDS = 0.02
"""A shorter round trip is not worth a word, whatever the ratio."""
NUM_TRIPS = 3
"""One round trip may meet something else on its way; a slow link is slow each time."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """``num_bytes`` went over the link to ``node``, there and back together, in ``seconds``."""

    node: str
    seconds: float
    num_bytes: int


@dataclass(frozen=True)
class Links:
    """What is remembered of round trips, a value: the last ones of each node."""

    trips: Mapping[str, tuple[RoundTrip, ...]] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)


def hear(
    links: Links, trips: Iterable[RoundTrip], now_seconds: float
) -> tuple[Links, tuple[Slow, ...]]:
    """What is known after some more round trips, of one payload size, and whose link is named.

    A link is named when its last three round trips each took ``SLOW_RATIO`` times the median of
    the other nodes' best, and ``LEAST_SECONDS``; once, until three in a row did not, or
    ``AGAIN_SECONDS`` later. ``now_seconds`` is of any clock that does not go back.
    """
    known, told = dict(links.trips), dict(links.told)
    heard: dict[str, None] = {}
    for trip in trips:
        known[trip.node] = (*known.get(trip.node, ()), trip)[-NUM_TRIPS:]
        heard[trip.node] = None
    named = []
    for node in heard:
        usual_seconds = _usual_seconds(known, node)
        if usual_seconds is None or len(known[node]) < NUM_TRIPS:
            continue
        limit_seconds = max(LEAST_SECONDS, SLOW_RATIO * usual_seconds)
        late = [trip.seconds >= limit_seconds for trip in known[node]]
        if all(late) and now_seconds - told.get(node, float("-inf")) >= AGAIN_SECONDS:
            told[node] = now_seconds
            named.append(_slow_link(known[node], usual_seconds))
        elif not any(late):
            told.pop(node, None)
    return Links(known, told), tuple(named)


def forget(links: Links, node: str) -> Links:
    """Without a node that is gone."""
    trips = {name: found for name, found in links.trips.items() if name != node}
    return Links(trips, {name: at for name, at in links.told.items() if name != node})


def _usual_seconds(known: Mapping[str, tuple[RoundTrip, ...]], node: str) -> float | None:
    others = [min(t.seconds for t in trips) for name, trips in known.items() if name != node]
    return median(others) if others else None


def _slow_link(trips: tuple[RoundTrip, ...], usual_seconds: float) -> Slow:
    best = min(trips, key=lambda trip: trip.seconds)
    ratio = best.seconds / usual_seconds if usual_seconds else float("inf")
    rate = best.num_bytes * 8 / best.seconds / 1e6
    text = (
        f"the link to node {best.node} is slow: {best.num_bytes:,} bytes took "
        f"{best.seconds * 1e3:.3g} ms there and back, {rate:.3g} Mbit/s; to the other nodes "
        f"{usual_seconds * 1e3:.3g} ms"
    )
    return Slow(None, best.node, ratio, text)
