"""Why does a run wait, in one sentence?

Words for people, from what a decision saw. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.coordinator.entries import Claim, Holding, Waiting
from orchestrator.coordinator.fitting import smallest
from orchestrator.coordinator.needs import Need, capacity
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.shortfall import format_bundle
from orchestrator.plan.selectors import format_selector
from orchestrator.plan.wording import choice

_MOST_NAMED = 3


class Reasons:
    """Says why runs wait. Built once for all of them, since they mostly need the same."""

    def __init__(self, holding: Sequence[Holding], claims: Sequence[Claim], totals: Rooms) -> None:
        self._holding, self._claims, self._totals = holding, claims, totals
        self._held: dict[Need, Sequence[str]] = {}

    def why(
        self,
        waiting: Waiting,
        free: Rooms,
        bare: Rooms,
        reserved: Sequence[str],
        decided: str,
    ) -> str:
        """``needs 4 × {CPU: 1}; 2 are free; run a (priority 0) holds 2``.

        ``free`` is what the run may take; ``bare`` the same if nothing were set aside for the runs
        in ``reserved``; ``decided`` is said last.
        """
        counts = smallest(waiting)[0].gang.counts
        demand = choice([_bundles(need, count) for need, count in counts.items()], "and")
        rooms = {need: sum(free.capacity(need)) for need in counts}
        lacking = [need for need in counts if rooms[need] < counts[need]] or list(counts)
        hardest = max(lacking, key=lambda need: (counts[need] - rooms[need], need))
        aside = sum(bare.capacity(hardest)) - rooms[hardest]
        parts = [f"needs {demand}", self._free(hardest, rooms, counts)]
        if reserved and aside > 0:
            verb = "is" if aside == 1 else "are"
            parts.append(f"{aside} more {verb} set aside for {_runs(reserved)}")
        parts += self._holders(hardest)
        return "; ".join([*parts, *([decided] if decided else [])])

    def _free(self, need: Need, rooms: Mapping[Need, int], counts: Mapping[Need, int]) -> str:
        room = rooms[need]
        if all(rooms[each] >= count for each, count in counts.items()):
            return "there is room for each alone, but not for all at once as the plan wants them"
        such = f" {format_bundle(need.bundle)}" if len(counts) > 1 else ""
        in_all = sum(self._totals.capacity(need))
        if in_all < counts[need]:
            return f"{room}{such} {_are(room)} free, and these nodes hold {in_all} in all"
        return f"{room}{such} {_are(room)} free"

    def _holders(self, need: Need) -> Sequence[str]:
        if need not in self._held:
            holders: list[Holding | Claim] = [*self._holding, *self._claims]
            found = [(self._in(each, need), each) for each in holders]
            held = sorted(
                ((count, each) for count, each in found if count), key=lambda e: (-e[0], e[1].run)
            )
            named = [_holder(each, count) for count, each in held[:_MOST_NAMED]]
            rest = held[_MOST_NAMED:]
            if rest:
                named.append(f"{_runs_more(len(rest))} {sum(count for count, _ in rest)}")
            self._held[need] = named
        return self._held[need]

    def _in(self, holder: Holding | Claim, need: Need) -> int:
        """How many such bundles would have room in those of a holder."""
        if need.selector:
            meant, index = self._totals.selected(need.selector), self._totals.index
            pairs = zip(holder.nodes, holder.gang.needs, strict=True)
            own = [theirs for name, theirs in pairs if name in index and meant[index[name]]]
            return sum(capacity(need.shape, dict(theirs.shape)) for theirs in own)
        return sum(
            count * capacity(need.shape, dict(theirs.shape))
            for theirs, count in holder.gang.counts.items()
        )


def _bundles(need: Need, count: int) -> str:
    labels = format_selector(dict(need.selector))
    text = f"{count} × {format_bundle(need.bundle)}"
    return f"{text} on nodes with {labels}" if labels else text


def _holder(holder: Holding | Claim, count: int) -> str:
    if isinstance(holder, Claim):
        return f"run {holder.run} is about to take {count} back"
    return f"run {holder.run} (priority {holder.priority}) holds {count}"


def _runs(names: Sequence[str]) -> str:
    shown = names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], "others"]
    return f"run {shown[0]}" if len(names) == 1 else f"runs {choice(shown, 'and')}"


def _runs_more(count: int) -> str:
    return "1 more run holds" if count == 1 else f"{count} more runs hold"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
