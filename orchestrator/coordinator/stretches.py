"""What should a rank's own work in some steps have come to, going by the others?

Pure arithmetic on what all ranks told of the same steps. A rank is compared with those that do the
same work (its role); one that is alone with its work, a stage of a pipeline, with its own past,
and with how the others have changed since. Does not judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Expected = tuple[float | None, ...]
"""By rank, in seconds; ``None`` where nothing can be said."""

Past = Mapping[int, Sequence[float]]
"""By rank, own work a step in earlier stretches, the newest last."""

LEAST_PAST = 8
"""So many stretches make a past."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a step took on one rank: ``data_seconds`` of ``step_seconds`` waiting for samples,
    ``busy_seconds`` (``None``: it cannot tell) with work of its own, the rest waiting for others.
    Of the own work, ``guessed_seconds`` were spent asleep and told from waiting by samples.
    """

    step: int
    rank: int
    step_seconds: float
    busy_seconds: float | None
    data_seconds: float = 0.0
    guessed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """One step or several of which all ranks have told: sums over them, by rank.

    ``own_seconds`` is work and waiting for samples; ``step_seconds`` is that of the longest rank;
    ``guessed_seconds`` is the most that any rank's own work has of it.
    """

    first: int
    last: int
    num_steps: int
    step_seconds: float
    own_seconds: tuple[float, ...]
    data_seconds: tuple[float, ...]
    guessed_seconds: float = 0.0

    def joined(self, later: Stretch) -> Stretch:
        """With the steps that follow."""
        return Stretch(
            self.first,
            later.last,
            self.num_steps + later.num_steps,
            self.step_seconds + later.step_seconds,
            tuple(a + b for a, b in zip(self.own_seconds, later.own_seconds, strict=True)),
            tuple(a + b for a, b in zip(self.data_seconds, later.data_seconds, strict=True)),
            self.guessed_seconds + later.guessed_seconds,
        )


def step_of(told: Mapping[int, Work]) -> Stretch | None:
    """A step that every rank has told of; ``None`` where one of them could not tell."""
    works = [told[rank] for rank in range(len(told))]
    busy = [work.busy_seconds for work in works if work.busy_seconds is not None]
    if len(busy) < len(works):
        return None
    data = tuple(work.data_seconds for work in works)
    return Stretch(
        works[0].step,
        works[0].step,
        1,
        max(work.step_seconds for work in works),
        tuple(own + waited for own, waited in zip(busy, data, strict=True)),
        data,
        max(work.guessed_seconds for work in works),
    )


def by_others(stretch: Stretch, roles: Sequence[int], past: Past) -> Expected:
    """For each rank the median of the others of its role, of two ranks that of the other one."""
    found: dict[int, float | None] = {}
    for role in dict.fromkeys(roles):
        ranks = [rank for rank, other in enumerate(roles) if other == role]
        if len(ranks) == 1:
            others = [rank for rank in range(len(roles)) if rank != ranks[0]]
            found[ranks[0]] = _by_past(stretch, ranks[0], others, past)
            continue
        ranks.sort(key=lambda rank: stretch.own_seconds[rank])
        ordered = [stretch.own_seconds[rank] for rank in ranks]
        for place, rank in enumerate(ranks):
            found[rank] = _median_without(ordered, place)
    return tuple(found[rank] for rank in range(len(roles)))


def by_those_elsewhere(
    stretch: Stretch, roles: Sequence[int], nodes: Sequence[str], past: Past
) -> Expected:
    """For each rank the median of the ranks of its role that lie on other nodes."""
    places = list(zip(nodes, roles, strict=True))
    medians: dict[tuple[str, int], float | None] = {}
    for node, role in dict.fromkeys(places):
        peers = [
            own
            for own, (its_node, its_role) in zip(stretch.own_seconds, places, strict=True)
            if its_node != node and its_role == role
        ]
        medians[node, role] = median(peers) if peers else None
    found = []
    for rank, place in enumerate(places):
        expected = medians[place]
        if expected is None:
            others = [other for other, node in enumerate(nodes) if node != place[0]]
            expected = _by_past(stretch, rank, others, past)
        found.append(expected)
    return tuple(found)


def _median_without(ordered: Sequence[float], place: int) -> float:
    """The median of two or more ordered values but the one at ``place``."""
    count = len(ordered) - 1

    def at(index: int) -> float:
        return ordered[index + (index >= place)]

    return (at((count - 1) // 2) + at(count // 2)) / 2


def _by_past(stretch: Stretch, rank: int, others: Sequence[int], past: Past) -> float | None:
    """What it used to take, times the median change of the others."""
    usual = _usual(stretch, rank, past)
    if usual is None:
        return None
    changes = [
        stretch.own_seconds[other] / before
        for other in others
        if (before := _usual(stretch, other, past))
    ]
    return usual * median(changes) if changes else None


def _usual(stretch: Stretch, rank: int, past: Past) -> float | None:
    """What so many steps took a rank in the past."""
    known = past.get(rank, ())
    return median(known) * stretch.num_steps if len(known) >= LEAST_PAST else None
