"""Who may start now, who makes room, and why do the others wait?

One decision for all runs of a cluster, from values to values. Runs are asked by priority, then by
arrival, each for the largest size that fits what is left. The rules:

- **Back-filling.** A run that does not fit holds nobody up, until it has waited for
  ``RESERVE_AFTER_SECONDS``: from then on what it needs is set aside on concrete nodes as it comes
  free, and nobody later may take it. How long runs take is not known, so before that no later run
  could be shown to be harmless; after it, none does harm.
- **Making room.** Elastic runs of lower priority shrink, if that makes room; what they then have is
  theirs, and the rest is set aside for the one that waits.
- **Growing.** Runs are offered more workers where nobody who waits could use the room.

Does not know how anything is reserved, stopped or restarted, nor when it is asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import (
    Claim,
    Grant,
    Holding,
    Position,
    Schedule,
    Shrink,
    Waiting,
)
from orchestrator.coordinator.fitting import Fit, best_fit, fits_somehow, smallest_fit
from orchestrator.coordinator.growing import grow
from orchestrator.coordinator.node import Free, Node
from orchestrator.coordinator.positions import Reasons
from orchestrator.coordinator.reserving import reserve
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.shrinking import Room, Shrinking
from orchestrator.coordinator.topology import Tree, tree_of

RESERVE_AFTER_SECONDS = 30.0
"""How long a run waits before room is set aside for it."""


def schedule(
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    nodes: Sequence[Node],
    free: Free,
    claims: Sequence[Claim] = (),
    *,
    reserve_after_seconds: float = RESERVE_AFTER_SECONDS,
) -> Schedule:
    """Decide for everybody at once; the same values always come to the same decision.

    ``free`` is what Ray says that nobody holds, ``claims`` what of it is spoken for. A run may have
    a claim and wait: the claim is open to it alone.
    """
    desk = _Desk(holding, nodes, free, claims)
    left, why = [], []
    for each in sorted(waiting, key=lambda entry: entry.turn):
        fit = desk.fit(each)
        if fit is not None:
            desk.grant(each, fit)
            continue
        seen, earlier = desk.for_run(each, desk.free).copy(), tuple(desk.reserved)
        decided = desk.prepare(each, each.waited_seconds >= reserve_after_seconds)
        bare = desk.for_run(each, desk.bare)
        left.append(each)
        why.append(desk.reasons.why(each, seen, bare, earlier, decided))
    return Schedule(
        tuple(desk.grants),
        tuple(desk.shrinks.values()),
        grow(desk.steady(), left, desk.free, desk.totals, desk.tree),
        tuple(
            Position(each.run, place, len(left), text)
            for place, (each, text) in enumerate(zip(left, why, strict=True), start=1)
        ),
        desk.reserved,
    )


class _Desk:
    """What is decided so far, and what that leaves to those who are asked next."""

    def __init__(
        self,
        holding: Sequence[Holding],
        nodes: Sequence[Node],
        free: Free,
        claims: Sequence[Claim],
    ) -> None:
        self.totals = Rooms(nodes)
        self.bare = Rooms(nodes, free)
        self.potential = self.bare.copy()
        self._claims = {claim.run: claim for claim in claims}
        for claim in claims:
            self.bare.take_all(claim.placed)
        for each in holding:
            self.potential.take_all(each.placed, -1)
        self.free = self.bare.copy()  # without what is set aside
        self.soon = self.bare.copy()  # and with what shrinking runs give back
        self._holding = sorted(holding, key=lambda each: each.run)
        self._shrinking = Shrinking(holding, self.totals.nodes, self.soon)
        self._trees: dict[tuple[str, ...], Tree] = {}
        self.reasons = Reasons(holding, claims, self.totals)
        self.grants: list[Grant] = []
        self.shrinks: dict[str, Shrink] = {}
        self.reserved: dict[str, Assignment] = {}

    def tree(self, topology: tuple[str, ...]) -> Tree:
        """The neighbourhoods by these labels."""
        if topology not in self._trees:
            self._trees[topology] = tree_of(self.totals.nodes, topology)
        return self._trees[topology]

    def for_run(self, entry: Waiting, rooms: Rooms) -> Rooms:
        """What of ``rooms`` is open to a run: also its own claim, but no node that it avoids."""
        claim = self._claims.get(entry.run)
        if claim is None and not entry.excluded:
            return rooms
        own = rooms.copy()
        if claim is not None:
            own.take_all(claim.placed, -1)
        return own.without(entry.excluded)

    def fit(self, entry: Waiting) -> Fit | None:
        """The best that is free for the run, or what was reserved for it if that is free now."""
        rooms = self.for_run(entry, self.free)
        found = best_fit(entry, rooms, self.tree(entry.topology))
        before = entry.reserved
        if found is None and before is not None and rooms.hold(before.placed):
            same = (option for option in entry.options if option.gang == before.gang)
            option = next(same, None)
            found = Fit(option, before) if option is not None else None
        return found

    def grant(self, entry: Waiting, fit: Fit) -> None:
        """The run has its gang; its claim is used up."""
        self.grants.append(Grant(entry.run, fit.option, fit.assignment))
        claim = self._claims.pop(entry.run, None)
        for rooms in (self.bare, self.free, self.soon):
            if claim is not None:
                rooms.take_all(claim.placed, -1)
            rooms.take_all(fit.assignment.placed)

    def prepare(self, entry: Waiting, waited_long: bool) -> str:
        """See to it that a run that does not fit will some day; says what was decided."""
        tree = self.tree(entry.topology)

        def find(rooms: Rooms) -> Fit | None:
            return smallest_fit(entry, self.for_run(entry, rooms), tree)

        def works(rooms: Rooms) -> bool:
            return fits_somehow(entry, self.for_run(entry, rooms), tree)

        coming = find(self.soon) if self._shrinking.coming else None
        if coming is not None:
            self._set_aside(entry, coming.assignment)
            return "room is being made for it"
        room = self._shrinking.make_room(entry.priority, find, works)
        if room is not None:
            return self._shrink(entry, room)
        if waited_long:
            free = self.for_run(entry, self.free)
            potential = self.potential.without(entry.excluded)
            target = reserve(entry, free, potential, tree)
            if target is not None:
                self._set_aside(entry, target)
                return "what comes free is kept for it"
        return ""

    def steady(self) -> list[Holding]:
        """The runs that nobody has asked to shrink."""
        return [
            each for each in self._holding if each.run not in self.shrinks and each.yielding is None
        ]

    def _shrink(self, entry: Waiting, room: Room) -> str:
        self._shrinking.carry_out(room.sizes)
        for run, size in room.sizes.items():
            assert size.assignment is not None
            self.shrinks[run] = Shrink(run, size.workers, size.assignment, entry.run)
        self._set_aside(entry, room.fit.assignment)
        shrunk = (f"run {run} shrinks to {size.workers}" for run, size in room.sizes.items())
        return f"{', '.join(shrunk)} to make room"

    def _set_aside(self, entry: Waiting, target: Assignment) -> None:
        """Nobody who is asked later may take what is there of it already."""
        self.reserved[entry.run] = target
        self.potential.take_all(target.placed)
        claim = self._claims.get(entry.run)
        placed = Counter(target.placed) - Counter(claim.placed if claim is not None else ())
        self.free.set_aside(placed.elements())
        self.soon.set_aside(placed.elements())
