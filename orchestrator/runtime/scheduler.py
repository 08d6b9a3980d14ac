"""Who gets room on the cluster, and when? The one place where all of its runs meet.

Runs that want a gang wait in ``place``; a thread asks ``coordinator.queue`` what is to be done
about everybody, and whoever is granted room reserves it at once. What is held and claimed is
remembered here alone: after a restart of the actor it is adopted from the placement groups that
are there. Does not know what runs do with their gangs, nor how they are told to shrink or grow.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Claim, Grow, Position, Shrink
from orchestrator.coordinator.needs import Shape
from orchestrator.coordinator.node import Free, Node
from orchestrator.coordinator.placement import Option, choose_gang, options_of
from orchestrator.coordinator.queue import schedule
from orchestrator.coordinator.vacancy import vacancy
from orchestrator.errors import InfeasibleError, PlacementTimeout
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.runtime import gang as gangs
from orchestrator.runtime.turns import Ask, Held, Kept, Turn

_log = logging.getLogger(__name__)

_WAITING_SECONDS = 0.1
"""How often it is looked again while somebody waits."""
_HOLDING_SECONDS = 2.0
"""And how often while runs hold gangs that could grow."""
_PINNED_SECONDS = 3.0
"""A gang that is not placed by then was granted room that somebody outside has taken."""
_CLAIM_SECONDS = 60.0
"""What was given back to be asked for again is kept so long."""
_LAG_SECONDS = 1.5
"""Ray's view of what is free may be as old as this."""
_RETOLD_SECONDS = 5.0
"""An offer to grow is not repeated earlier."""


class Listener(Protocol):
    """Who is told what was decided about a run, by its URI. Called from the scheduler's thread."""

    def queued(self, uri: str, position: Position) -> None:
        """The run goes on waiting, now at this place and for this reason."""

    def shrink(self, uri: str, shrink: Shrink) -> bool:
        """The run is to make room; whether it will. If not, it is asked again."""

    def grow(self, uri: str, grow: Grow, since_placed_seconds: float) -> None:
        """The run may have more workers."""


class Scheduler:
    """Gives out the room of one cluster.

    ``nodes`` and ``free`` ask the cluster what there is, and what of it nobody holds.
    """

    def __init__(
        self,
        listener: Listener,
        nodes: Callable[[], Sequence[Node]],
        free: Callable[[], Free],
    ) -> None:
        self._listener, self._nodes, self._free = listener, nodes, free
        self._turns: dict[str, Turn] = {}
        self._held: dict[str, Held] = {}
        self._kept: dict[str, Kept] = {}
        self._arrivals: dict[str, int] = {}
        self._returned: list[tuple[float, tuple[tuple[str, Shape], ...]]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="axis-scheduler", daemon=True).start()

    def place(self, ask: Ask) -> Assignment:
        """Wait for room, and reserve it. Returns where every bundle lies.

        Raises ``InfeasibleError`` at once for what these nodes could never hold, and
        ``PlacementTimeout`` at the deadline, or when the run withdraws; then nothing is held.
        """
        turn = self._enter(ask)
        try:
            if turn.withdrawn.wait(random.uniform(0.0, ask.backoff_seconds)):
                raise self._too_late(turn)
            deadline = time.monotonic() + ask.timeout_seconds
            while True:
                self._check_possible(ask)
                assignment = self._await_grant(turn, deadline)
                if self._reserve(turn, assignment, deadline):
                    return assignment
        finally:
            with self._changed:
                if self._turns.get(ask.uri) is turn:
                    del self._turns[ask.uri]
                self._changed.notify_all()

    def release(self, uri: str, run: str, attempts: Sequence[int], keep: bool) -> None:
        """Give back what a run holds, and what it waits for.

        With ``keep`` nobody else gets the room for a while, for the run is about to take it again:
        where it was asked to shrink, the part that it will still have.
        """
        with self._changed:
            turn, held = self._turns.pop(uri, None), self._held.get(uri)
            if turn is not None:
                turn.withdrawn.set()
            if held is not None and keep:
                left = held.shrink.assignment if held.shrink else held.assignment
                until = time.monotonic() + _CLAIM_SECONDS
                self._kept[uri] = Kept(held.label, left, until)
            self._changed.notify_all()
        for attempt in attempts:
            gangs.release(gangs.gang_name(run, attempt))
        with self._changed:
            given_back = self._held.pop(uri, None)
            if given_back is not None:
                until = time.monotonic() + _LAG_SECONDS
                self._returned.append((until, given_back.assignment.placed))
            self._changed.notify_all()

    def forget_claim(self, uri: str) -> None:
        """What the run has given back may go to anybody."""
        with self._changed:
            self._kept.pop(uri, None)
            self._changed.notify_all()

    def forget(self, uri: str) -> None:
        """The run is over: its next coming is an arrival like any other."""
        with self._changed:
            self._kept.pop(uri, None)
            self._arrivals.pop(uri, None)

    def adopt(self, uri: str, plan: Plan, assignment: Assignment) -> None:
        """A run holds this gang since before this scheduler was made."""
        options = _all_options(plan, self._nodes())
        with self._changed:
            label, arrived, now = self._label(uri, plan), self._arrive(uri), time.monotonic()
            self._held[uri] = Held(plan, label, arrived, assignment, options, now)

    def assignment(self, uri: str) -> Assignment | None:
        """Where the bundles of a run's gang lie; ``None`` while it has none."""
        with self._changed:
            held = self._held.get(uri)
            return held.assignment if held else None

    def avoid(self, uri: str, excluded: Sequence[str]) -> None:
        """From now on, the run is not offered room on these nodes."""
        with self._changed:
            if uri in self._held:
                self._held[uri].excluded = frozenset(excluded)

    def since_placed_seconds(self, uri: str) -> float:
        """How long a run has had its gang."""
        with self._changed:
            held = self._held.get(uri)
            return time.monotonic() - held.since if held else 0.0

    # ------------------------------------------------------------------ inside

    def _enter(self, ask: Ask) -> Turn:
        options, now = options_of(ask.plan, ask.workers, self._nodes()), time.monotonic()
        with self._changed:
            label, arrived = self._label(ask.uri, ask.plan), self._arrive(ask.uri)
            turn = Turn(ask, label, arrived, options, now)
            self._turns[ask.uri] = turn
            return turn

    def _arrive(self, uri: str) -> int:
        """The run's number in the order of arrivals, which it keeps through its restarts."""
        newest = max(self._arrivals.values(), default=0)
        return self._arrivals.setdefault(uri, newest + 1)

    def _label(self, uri: str, plan: Plan) -> str:
        """The run's name for people; with its URI where another run has the same."""
        others = [(key, each.label) for key, each in self._turns.items()]
        others += [(key, each.label) for key, each in self._held.items()]
        taken = any(label == plan.name for key, label in others if key != uri)
        return f"{plan.name} ({uri})" if taken else plan.name

    def _check_possible(self, ask: Ask) -> None:
        try:
            choose_gang(ask.plan, self._nodes(), ask.workers, excluded=ask.excluded)
        except InfeasibleError:
            if not ask.repairing:
                raise

    def _await_grant(self, turn: Turn, deadline: float) -> Assignment:
        with self._changed:
            turn.granted = None
            self._changed.notify_all()  # the thread may be asleep for longer
            while turn.granted is None:
                left = deadline - time.monotonic()
                if left <= 0 or turn.withdrawn.is_set():
                    raise self._too_late(turn)
                self._changed.wait(min(left, 1.0))
            return turn.granted

    def _reserve(self, turn: Turn, assignment: Assignment, deadline: float) -> bool:
        """Whether Ray gave what was granted; else the run is back where it was in the queue."""
        ask = turn.ask
        seconds = min(_PINNED_SECONDS, max(_WAITING_SECONDS, deadline - time.monotonic()))
        name = gangs.gang_name(ask.plan.name, ask.attempt)
        placed = None
        try:
            placed = gangs.place(name, assignment, ask.strategy, seconds, turn.withdrawn.is_set)
        finally:
            with self._changed:
                if placed is None or turn.withdrawn.is_set():
                    self._held.pop(ask.uri, None)
        if placed is not None and turn.withdrawn.is_set():
            gangs.release(name)
            raise self._too_late(turn)
        return placed is not None

    def _too_late(self, turn: Turn) -> PlacementTimeout:
        if turn.withdrawn.is_set():
            return PlacementTimeout("the reservation was withdrawn while it waited")
        why = turn.position.why if turn.position else f"needs {_smallest(turn.options)} at once"
        return PlacementTimeout(
            f"the gang was not placed within {turn.ask.timeout_seconds:g} s: {why}"
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                waiting = any(turn.granted is None for turn in self._turns.values())
                self._changed.wait(_WAITING_SECONDS if waiting else _HOLDING_SECONDS)
                busy = bool(self._turns or self._held)
            if busy:
                try:
                    self._decide()
                except Exception:  # the cluster did not answer; those who wait have deadlines
                    _log.exception("nothing could be decided about who gets room")

    def _decide(self) -> None:
        nodes, reported = self._nodes(), self._free()
        now = time.monotonic()
        with self._changed:
            self._kept = {uri: kept for uri, kept in self._kept.items() if kept.until > now}
            self._returned = [(until, placed) for until, placed in self._returned if until > now]
            held = [each for run in self._held.values() for each in run.assignment.placed]
            returned = [each for _, placed in self._returned for each in placed]
            uris = {turn.label: uri for uri, turn in self._turns.items()}
            uris |= {run.label: uri for uri, run in self._held.items()}
            turns = {uri: turn for uri, turn in self._turns.items() if turn.granted is None}
            decided = schedule(
                [turn.waiting(now) for turn in turns.values()],
                [run.holding() for run in self._held.values()],
                nodes,
                vacancy(nodes, reported, held, returned),
                self._claims(),
            )
            for grant in decided.grants:
                self._grant(uris[grant.run], grant.assignment, nodes, now)
            for turn in turns.values():
                turn.reserved = decided.reservations.get(turn.label)
            moved = [(uris[each.run], each) for each in decided.positions]
            moved = [(uri, each) for uri, each in moved if self._is_news(uri, each)]
            shrinks = [(uris[each.run], each) for each in decided.shrinks]
            for uri, each in shrinks:
                self._held[uri].shrink = each
            grows = [(each, self._offer(uris[each.run], now)) for each in decided.grows]
            self._changed.notify_all()
        for uri, position in moved:
            self._listener.queued(uri, position)
        for uri, shrink in shrinks:
            if not self._listener.shrink(uri, shrink):
                self._unask(uri, shrink)
        for grow, since in grows:
            if since is not None:
                self._listener.grow(uris[grow.run], grow, since)

    def _grant(self, uri: str, assignment: Assignment, nodes: Sequence[Node], now: float) -> None:
        turn = self._turns[uri]
        turn.granted = assignment
        self._kept.pop(uri, None)
        self._held[uri] = Held(
            turn.ask.plan,
            turn.label,
            turn.arrived,
            assignment,
            _all_options(turn.ask.plan, nodes),
            now,
            turn.ask.excluded,
        )

    def _unask(self, uri: str, shrink: Shrink) -> None:
        """The run does not make room now: it may not have begun, or have other worries."""
        with self._changed:
            held = self._held.get(uri)
            if held is not None and held.shrink is shrink:
                held.shrink = None

    def _is_news(self, uri: str, position: Position) -> bool:
        turn = self._turns[uri]
        known, turn.position = turn.position, position
        return known != position

    def _offer(self, uri: str, now: float) -> float | None:
        """How long the run has had its gang; ``None`` where it was made this offer just now."""
        held = self._held[uri]
        if now - held.offered_at < _RETOLD_SECONDS:
            return None
        held.offered_at = now
        return now - held.since

    def _claims(self) -> list[Claim]:
        """What was given back, but for those who hold something again."""
        return [
            Claim(kept.label, kept.assignment.gang, kept.assignment.nodes)
            for uri, kept in self._kept.items()
            if uri not in self._held
        ]


def _all_options(plan: Plan, nodes: Sequence[Node]) -> tuple[Option, ...]:
    """Every size that the plan allows, whatever the run asks for at the moment."""
    return options_of(plan, legal_workers(plan), nodes)


def _smallest(options: Sequence[Option]) -> str:
    return gangs.describe(options[-1].gang)
