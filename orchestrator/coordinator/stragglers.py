"""Which worker, or which node, is slower than the others?

Pure: from what each worker said of its own work in a step (not of the step's length, which is the
same for all of them) to whom to name, with the figures. Knows neither clocks nor what is done
about it; what is expected of a rank is worked out by ``stretches``, and slow links are the
concern of ``slow_links``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.coordinator.stretches import (
    Expected,
    Stretch,
    Work,
    by_others,
    by_those_elsewhere,
    step_of,
)
from orchestrator.plan.mesh import Mesh, coordinate_of

__all__ = ["Lookout", "Slow", "Work", "look", "watch"]

SLOW_RATIO = 1.6
"""So much longer than the others, over three stretches together. Work that varies by a fifth both
ways stays below: 1.2 / 0.8 = 1.5."""
FINE_RATIO = 1.3
"""Who stays below this in three stretches is no longer slow; who falls below in one of them had
only a bad step."""
NUM_STRETCHES = 3
STRETCH_SECONDS = 0.08
"""Shorter steps are taken together until they make so much: what a scheduler does to one of them
says nothing."""
GUESSED_STRETCH_SECONDS = 0.25
"""Where own work was guessed from samples, some milliseconds apart: fifty of them, or more, are off
by a seventh at most in two of three cases (binomial, one half), three stretches by a twelfth."""
GUESSED_SHARE = 0.05
"""Of a stretch; less is a sleep here or there, and nothing depends on it."""
LEAST_SHARE = 0.1
"""Of a step's time; less is not worth a word, whatever the ratio."""
AGAIN_SECONDS = 300.0
"""Who is slow still is named again after so long."""

_NUM_PAST = 16
_MOST_OPEN = 64


@dataclass(frozen=True, slots=True)
class Slow:
    """Who is slow, by what factor, in a sentence. ``rank`` is ``None`` for a node or its link."""

    rank: int | None
    node: str
    ratio: float
    text: str


@dataclass(frozen=True, slots=True)
class _Judged:
    stretch: Stretch
    expected: Expected
    elsewhere: Expected
    """The same, going by ranks on other nodes alone."""


@dataclass(frozen=True)
class Lookout:
    """What is remembered of one group of workers, a value; each group begins with a new one.

    ``nodes`` and ``roles`` are by rank; ranks of the same role do the same work.
    """

    nodes: tuple[str, ...]
    roles: tuple[int, ...]
    open_steps: Mapping[int, Mapping[int, Work]] = field(default_factory=dict)
    growing: Stretch | None = None
    judged: tuple[_Judged, ...] = ()
    past: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Own work a step in stretches in which the rank was not slow, the newest last."""
    told: Mapping[str, float] = field(default_factory=dict)


def watch(nodes: Sequence[str], mesh: Mesh) -> Lookout:
    """Begin with a group: the node of each rank, and the mesh that says who does the same work,
    which are all ranks but those of other stages of a pipeline."""
    roles = tuple(coordinate_of(mesh, rank)["pipeline"] for rank in range(mesh.size))
    return Lookout(tuple(nodes), roles)


def look(
    lookout: Lookout, works: Iterable[Work], now_seconds: float
) -> tuple[Lookout, tuple[Slow, ...]]:
    """What is known after some more was told, and who is to be named for it.

    A rank is named when its own work, waiting for samples included, took ``SLOW_RATIO`` times
    the median of the others' over three stretches of steps, and never less than ``FINE_RATIO``
    times; a node, when that is so of all its ranks against those elsewhere. Each is named once
    until it is no longer slow, or ``AGAIN_SECONDS`` later. ``now_seconds`` is of any clock that
    does not go back. A step counts when all ranks have told of it.
    """
    named: list[Slow] = []
    steps = {step: dict(by_rank) for step, by_rank in lookout.open_steps.items()}
    for work in works:
        told = steps.setdefault(work.step, {})
        told[work.rank] = work
        if len(told) < len(lookout.nodes):
            continue
        # What is missing of earlier steps was lost on its way.
        steps = {step: by_rank for step, by_rank in steps.items() if step > work.step}
        lookout, found = _with_step(lookout, step_of(told), now_seconds)
        named.extend(found)
    kept = dict(sorted(steps.items())[-_MOST_OPEN:])
    return replace(lookout, open_steps=kept), tuple(named)


def _with_step(
    lookout: Lookout, step: Stretch | None, now_seconds: float
) -> tuple[Lookout, tuple[Slow, ...]]:
    if step is None:
        return lookout, ()
    grown = step if lookout.growing is None else lookout.growing.joined(step)
    if grown.step_seconds < _enough_seconds(grown):
        return replace(lookout, growing=grown), ()
    new = _Judged(
        grown,
        by_others(grown, lookout.roles, lookout.past),
        by_those_elsewhere(grown, lookout.roles, lookout.nodes, lookout.past),
    )
    judged = (*lookout.judged, new)[-NUM_STRETCHES:]
    lookout = replace(lookout, growing=None, judged=judged, past=_past(lookout, new))
    return _named(lookout, now_seconds) if len(judged) == NUM_STRETCHES else (lookout, ())


def _enough_seconds(stretch: Stretch) -> float:
    guessed = stretch.guessed_seconds > GUESSED_SHARE * stretch.step_seconds
    return GUESSED_STRETCH_SECONDS if guessed else STRETCH_SECONDS


def _past(lookout: Lookout, new: _Judged) -> dict[int, tuple[float, ...]]:
    """The past with this stretch, but for ranks that are slow in it."""
    past = dict(lookout.past)
    for rank, own in enumerate(new.stretch.own_seconds):
        expected = new.expected[rank]
        if expected is None or own < FINE_RATIO * expected:
            past[rank] = (*past.get(rank, ()), own / new.stretch.num_steps)[-_NUM_PAST:]
    return past


def _named(lookout: Lookout, now_seconds: float) -> tuple[Lookout, tuple[Slow, ...]]:
    """Who is named now, nodes first: their ranks need no mention."""
    told, named = dict(lookout.told), list[Slow]()

    def tell(key: str, slow: Slow | None, fine: bool) -> None:
        if slow is not None and now_seconds - told.get(key, float("-inf")) >= AGAIN_SECONDS:
            told[key] = now_seconds
            named.append(slow)
        elif fine:
            told.pop(key, None)

    of_node: dict[str, list[int]] = {}
    for rank, node in enumerate(lookout.nodes):
        of_node.setdefault(node, []).append(rank)
    for node, ranks in of_node.items():
        if len(ranks) > 1:
            found = [_seen(lookout.judged, rank, elsewhere=True) for rank in ranks]
            slow = all(seen.slow for seen in found)
            ratio = min(seen.ratio for seen in found)
            said = _slow_node(lookout, node, ranks, ratio) if slow else None
            tell(f"node {node}", said, any(seen.fine for seen in found))
    for rank, node in enumerate(lookout.nodes):
        seen = _seen(lookout.judged, rank)
        meant = seen.slow and f"node {node}" not in told
        tell(f"rank {rank}", _slow_rank(lookout, rank, seen.ratio) if meant else None, seen.fine)
    return replace(lookout, told=told), tuple(named)


@dataclass(frozen=True, slots=True)
class _Seen:
    ratio: float
    slow: bool
    fine: bool


def _seen(judged: Sequence[_Judged], rank: int, elsewhere: bool = False) -> _Seen:
    """How a rank did over the last stretches; neither slow nor fine where nobody can say."""
    expected = [(each.elsewhere if elsewhere else each.expected)[rank] for each in judged]
    known = [value for value in expected if value]
    if len(known) < len(judged):
        return _Seen(0.0, slow=False, fine=False)
    own = [each.stretch.own_seconds[rank] for each in judged]
    ratios = [mine / other for mine, other in zip(own, known, strict=True)]
    ratio, more = sum(own) / sum(known), sum(own) - sum(known)
    matters = more >= LEAST_SHARE * sum(each.stretch.step_seconds for each in judged)
    slow = ratio >= SLOW_RATIO and min(ratios) >= FINE_RATIO and matters
    return _Seen(ratio, slow=slow, fine=max(ratios) < FINE_RATIO)


def _slow_rank(lookout: Lookout, rank: int, ratio: float) -> Slow:
    node = lookout.nodes[rank]
    own, data, over = _figures(lookout.judged, rank)
    alone = lookout.roles.count(lookout.roles[rank]) == 1
    whose = "what it used to take" if alone else "the others'"
    text = (
        f"worker {rank} on node {node} is slow: {own:.3g} s of own work a step, "
        f"{ratio:.1f} times {whose}, {over}"
    )
    if 2 * data > own:
        text += f"; {data:.3g} s of it go by waiting for samples"
    return Slow(rank, node, ratio, text)


def _slow_node(lookout: Lookout, node: str, ranks: Sequence[int], ratio: float) -> Slow:
    own, _, over = _figures(lookout.judged, ranks[0])
    text = (
        f"node {node} is slow: all of its {len(ranks)} workers take {ratio:.1f} times as long as "
        f"those elsewhere, or longer; worker {ranks[0]} {own:.3g} s of own work a step, {over}"
    )
    return Slow(None, node, ratio, text)


def _figures(judged: Sequence[_Judged], rank: int) -> tuple[float, float, str]:
    """Own work and waiting for samples a step, and which steps those were."""
    stretches = [each.stretch for each in judged]
    count = sum(each.num_steps for each in stretches)
    own = sum(each.own_seconds[rank] for each in stretches) / count
    data = sum(each.data_seconds[rank] for each in stretches) / count
    return own, data, f"over steps {stretches[0].first} to {stretches[-1].last}"
