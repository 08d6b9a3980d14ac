"""Can this gang ever be placed on these nodes, and if not, what would fit?

Compares bundles with what live nodes offer; refuses only what is provably impossible, so
that a refusal is never wrong. Does not know who holds the resources at the moment: pass the
nodes' totals to ask "ever?", what is free on them to ask "now?".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.coordinator.gang import EPSILON, Bundle, Gang, gang
from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import format_size
from orchestrator.plan.sizes import fixed_between

Shape = tuple[tuple[str, float], ...]
"""A bundle as a hashable value; gangs have few shapes and many bundles of each."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster: what it offers in Ray's words, and whether it is usable."""

    id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    alive: bool = True


@dataclass(frozen=True)
class Shortfall:
    """One thing that is missing.

    ``short`` is how much of ``resource`` is missing in all; where the sum would do but no
    node has room (``fragmented``), how many bundles find no node. ``works`` names plan values
    that fit, or is empty.
    """

    resource: str
    demand: str
    needed: float
    offered: float
    num_nodes: int
    fragmented: bool = False
    works: str = ""

    @property
    def short(self) -> float:
        """``needed - offered``."""
        return self.needed - self.offered

    def render(self) -> str:
        """``needs 4 × {CPU: 1}; 1 node offers 2; short by 2 CPU. training.workers=2 fits``."""
        nodes = "1 node offers" if self.num_nodes == 1 else f"{self.num_nodes} nodes offer"
        if self.fragmented:
            nodes = "1 node has" if self.num_nodes == 1 else f"{self.num_nodes} nodes have"
            found = f"{nodes} room for {self.offered:g} of {self.needed:g} such bundles"
            text = f"needs {self.demand}, each whole on one node; {found}"
        else:
            short = format_amount(self.resource, self.short)
            offered = format_amount(self.resource, self.offered, named=False)
            text = f"needs {self.demand}; {nodes} {offered}; short by {short}"
        return f"{text}. {self.works} fits" if self.works else f"{text}. Nothing smaller fits"


def preflight(
    wanted: Gang,
    nodes: Sequence[Node],
    smaller: Iterable[tuple[str, Gang]] = (),
) -> tuple[Shortfall, ...]:
    """What is missing for ``wanted``; empty when nothing is provably missing.

    ``smaller`` yields plan values and their gangs, the preferred first (``smaller_gangs``);
    the first that fits is named. It is only drawn from when something is missing.
    """
    live = [node for node in nodes if node.alive]
    found = _missing_in_sum(wanted, live) or _missing_room(wanted, live)
    if not found:
        return ()
    works = next((text for text, other in smaller if fits(other, live)), "")
    return tuple(
        Shortfall(
            each.resource,
            each.demand,
            each.needed,
            each.offered,
            each.num_nodes,
            each.fragmented,
            works,
        )
        for each in found
    )


def fits(wanted: Gang, nodes: Sequence[Node]) -> bool:
    """Whether first-fit-decreasing finds a node for every bundle. ``True`` is certain."""
    rooms = [dict(node.resources) for node in nodes if node.alive]
    shapes = sorted(_shapes(wanted).items(), key=lambda entry: _weight(entry[0]), reverse=True)
    return all(_place(shape, count, rooms) for shape, count in shapes)


def rooms_for(bundle: Bundle, nodes: Sequence[Node]) -> list[int]:
    """How many such bundles each live node could hold if it held nothing else."""
    shape = tuple(bundle.items())
    return [_capacity(shape, node.resources) for node in nodes if node.alive]


def smaller_gangs(plan: Plan, workers: int) -> Iterator[tuple[str, Gang]]:
    """Plan values that need less than ``workers`` workers do, the nearest first.

    First fewer workers alone, by every legal count below; then all axes capped together.
    """
    counts = fixed_between(plan, 1, workers - 1)[::-1] if workers > 1 else ()
    for count in counts:
        yield f"training.workers={count}", gang(plan, count)
    replicas = plan.inference.replicas.min if plan.inference else 0
    for cap in range(max(workers, plan.data.tasks, replicas) - 1, 0, -1):
        count = next((each for each in counts if each <= cap), workers)
        copies = min(replicas, cap)
        for tasks in dict.fromkeys((plan.data.tasks, min(plan.data.tasks, cap))):
            changed = [f"training.workers={count}"] * (count != workers)
            changed += [f"data.tasks={tasks}"] * (tasks != plan.data.tasks and workers > 0)
            changed += [f"inference.replicas={copies}"] * (copies != replicas)
            if changed:
                yield " ".join(changed), gang(plan, count, tasks=tasks, replicas=copies)


def format_amount(resource: str, amount: float, named: bool = True) -> str:
    """``2 CPU``, ``1.5GiB memory``: an amount of a resource for people."""
    text = f"{amount:g}"
    if resource in ("memory", "object_store_memory"):
        text = _format_bytes(amount)
    return f"{text} {resource}" if named else text


def format_bundle(bundle: Bundle) -> str:
    """``{CPU: 1, GPU: 1}``."""
    parts = (
        f"{name}: {format_amount(name, amount, named=False)}" for name, amount in bundle.items()
    )
    return "{" + ", ".join(parts) + "}"


def _format_bytes(amount: float) -> str:
    exact = format_size(int(amount))
    return exact if len(exact) <= 8 else f"{amount / 2**30:.3g}GiB"


def _missing_in_sum(wanted: Gang, live: Sequence[Node]) -> list[Shortfall]:
    demand = _demand(_shapes(wanted))
    found = []
    for name, needed in wanted.total.items():
        offered = sum(node.resources.get(name, 0.0) for node in live)
        if needed > offered + EPSILON:
            found.append(Shortfall(name, demand, needed, offered, len(live)))
    return found


def _missing_room(wanted: Gang, live: Sequence[Node]) -> list[Shortfall]:
    """Bundles of one shape, and all that are at least as large, need as many rooms of that
    shape: fewer rooms than bundles is proof."""
    shapes = _shapes(wanted)
    found = []
    for shape in shapes:
        needed = sum(count for other, count in shapes.items() if _covers(other, shape))
        rooms = sum(_capacity(shape, node.resources) for node in live)
        if needed > rooms:
            tightest = shape[0][0]
            demand = _demand({shape: needed})
            found.append(Shortfall(tightest, demand, needed, rooms, len(live), fragmented=True))
    return found


def _shapes(wanted: Gang) -> Counter[Shape]:
    return Counter(tuple(sorted(bundle.items())) for bundle in wanted.bundles)


def _demand(shapes: Mapping[Shape, int]) -> str:
    parts = (f"{count} × {format_bundle(dict(shape))}" for shape, count in shapes.items())
    return " and ".join(parts)


def _weight(shape: Shape) -> tuple[float, ...]:
    amounts = dict(shape)
    rare = sum(amount for name, amount in shape if name not in ("CPU", "memory"))
    return (rare, amounts.get("CPU", 0.0), amounts.get("memory", 0.0))


def _covers(larger: Shape, smaller: Shape) -> bool:
    amounts = dict(larger)
    return all(amounts.get(name, 0.0) >= amount - EPSILON for name, amount in smaller)


def _capacity(shape: Shape, room: Mapping[str, float]) -> int:
    return min(int((room.get(name, 0.0) + EPSILON) / amount) for name, amount in shape)


def _place(shape: Shape, count: int, rooms: list[dict[str, float]]) -> bool:
    left = count
    for room in rooms:
        taken = min(left, _capacity(shape, room))
        for name, amount in shape if taken else ():
            room[name] -= taken * amount
        left -= taken
        if left == 0:
            return True
    return False
