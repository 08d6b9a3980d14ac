"""Which runs may have more workers, now that nobody who waits could use the room?

By priority, then by arrival. An offer, not a grant: a run takes it when it next restarts, and
until then anybody who comes may have the room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from orchestrator.coordinator.entries import Grow, Holding, Waiting
from orchestrator.coordinator.fitting import best_fit, smallest
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import Tree


def grow(
    holding: Sequence[Holding],
    waiting: Sequence[Waiting],
    free: Rooms,
    totals: Rooms,
    tree: Callable[[tuple[str, ...]], Tree],
) -> tuple[Grow, ...]:
    """What each of ``holding`` could have beside what it has, if those who go on ``waiting`` can
    make no use of it. ``free`` loses what is offered; ``totals`` are the nodes without anybody."""
    found = []
    for each in sorted(holding, key=lambda one: (-one.priority, one.arrived, one.run)):
        if len(each.options) < 2 or each.options[0].workers <= each.workers:
            continue
        rooms = free.without(each.excluded)
        rooms.take_all(each.placed, -1)
        fit = best_fit(each, rooms, tree(each.topology))
        if fit is None or fit.option.workers <= each.workers:
            continue
        before, after = Counter(each.nodes), Counter(fit.assignment.nodes)
        gained = [name for name in after if after[name] > before[name]]
        if any(_could_use(other, gained, totals) for other in waiting):
            continue
        free.take_all(each.placed, -1)
        free.take_all(fit.assignment.placed)
        found.append(Grow(each.run, fit.option.workers, fit.assignment))
    return tuple(found)


def _could_use(waiting: Waiting, names: Collection[str], totals: Rooms) -> bool:
    """Whether one of these nodes could, empty, hold a bundle of the run."""
    nodes = [totals.index[name] for name in names if name not in waiting.excluded]
    needs = {need for option in smallest(waiting) for need in option.gang.counts}
    return any(totals.capacity(need)[node] for need in needs for node in nodes)
