"""Which bundles does a plan need, all or none?

Pure arithmetic from the plan to bundles. Does not know which nodes there are (``preflight``),
where bundles go (``assign``) nor how they are reserved.

In ``batch`` mode the phases follow one another, so data tasks, workers and replicas take turns
in the same bundles. Bundle *i* is the elementwise maximum of what worker *i*, data task *i*
and replica *i* need, on a node that has the labels of all of them. Where an axis has more members
than there are bundles, the further ones share a bundle with members of their own axis if they fit
beside them, and get one of their own only if not: two data tasks of half a CPU share the bundle of
a single one-CPU worker. Members whose labels no node has together do not share a bundle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from orchestrator.coordinator.needs import Need, need_of
from orchestrator.coordinator.node import Node
from orchestrator.plan.plan import Plan
from orchestrator.plan.resources import Resources
from orchestrator.plan.selectors import Selector, combine, matches

Bundle = Mapping[str, float]

TINY_BUNDLE: Bundle = {"CPU": 0.001}
"""What a member that asks for nothing gets: Ray reserves no empty bundle."""

EPSILON = 1e-6
"""Finer than Ray's own resolution of resources (1e-4)."""


@dataclass(frozen=True)
class Gang:
    """Bundles that are reserved all or not at all, and who uses which.

    ``training[i]`` is the index of the bundle of worker *i*; ``data`` and ``inference``
    likewise for data tasks and replicas. ``selectors[i]`` are the labels of the node that bundle
    *i* goes to, in Ray's syntax; without ``selectors`` any node will do.
    """

    bundles: tuple[Bundle, ...]
    training: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    inference: tuple[int, ...] = ()
    strategy: Literal["PACK", "SPREAD"] = "PACK"
    selectors: tuple[Selector, ...] = ()

    @property
    def workers(self) -> int:
        """K: how many training workers the gang holds."""
        return len(self.training)

    @property
    def total(self) -> dict[str, float]:
        """The sum of all bundles per resource."""
        names = sorted({name for bundle in self.bundles for name in bundle})
        return {name: sum(bundle.get(name, 0.0) for bundle in self.bundles) for name in names}

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """What each bundle needs; equal ones are the same value."""
        selectors = self.selectors or ({},) * len(self.bundles)
        before: tuple[Bundle, Selector] | None = None
        known: dict[Need, Need] = {}
        found: list[Need] = []
        for each in zip(self.bundles, selectors, strict=True):
            if each == before:  # equal bundles mostly stand side by side
                found.append(found[-1])
                continue
            need = need_of(*each)
            found.append(known.setdefault(need, need))
            before = each
        return tuple(found)

    @cached_property
    def counts(self) -> Mapping[Need, int]:
        """How many bundles there are of each need."""
        return Counter(self.needs)


def gang(
    plan: Plan,
    workers: int,
    *,
    tasks: int | None = None,
    replicas: int | None = None,
    strategy: Literal["PACK", "SPREAD"] = "PACK",
    nodes: Sequence[Node] = (),
    apart: bool = False,
) -> Gang:
    """The gang for ``workers`` training workers; 0: training is done, replicas alone.

    ``tasks`` and ``replicas`` default to the plan's (of an autoscaling range its minimum: what
    the app can count on). With ``nodes``, members of two axes share a bundle only if one of these
    has the labels of both; ``apart``: only if they ask for the same labels.
    """
    seating = _Seating(nodes, apart)
    training = seating.seat(plan.training.resources, workers)
    num_tasks = 0 if workers == 0 else (plan.data.tasks if tasks is None else tasks)
    data = seating.seat(plan.data.resources, num_tasks)
    inference: tuple[int, ...] = ()
    if plan.inference is not None:
        num_replicas = plan.inference.replicas.min if replicas is None else replicas
        inference = seating.seat(plan.inference.resources, num_replicas)
    selectors = tuple(seating.selectors) if any(seating.selectors) else ()
    return Gang(tuple(seating.bundles), training, data, inference, strategy, selectors)


def worker_bundle(plan: Plan) -> Bundle:
    """What one training worker needs; its bundle in a gang holds at least that."""
    return _need(plan.training.resources)


def worker_need(plan: Plan) -> Need:
    """The same, with the labels of its node."""
    return need_of(worker_bundle(plan), plan.training.resources.label_selector)


def asks_for_labels(plan: Plan) -> bool:
    """Whether two axes of the plan ask for different labels."""
    asked = [plan.training.resources, plan.data.resources]
    asked += [plan.inference.resources] if plan.inference is not None else []
    return any(each.label_selector != asked[0].label_selector for each in asked)


def _need(resources: Resources) -> Bundle:
    return resources.as_ray() or TINY_BUNDLE


class _Seating:
    """Bundles as they come to be, and the labels of each."""

    def __init__(self, nodes: Sequence[Node], apart: bool) -> None:
        self.bundles: list[dict[str, float]] = []
        self.selectors: list[Selector] = []
        self._nodes, self._apart = nodes, apart

    def seat(self, resources: Resources, members: int) -> tuple[int, ...]:
        """Give each member of an axis a bundle: one each while there are bundles that it may
        share, which grow as needed; then room left beside members of the same axis; then new
        bundles."""
        need, selector = _need(resources), resources.label_selector
        seats = self._share(need, selector, members)
        rooms = [[index] * (_times(self.bundles[index], need) - 1) for index in seats]
        spare = [index for room in rooms for index in room]
        beside = min(len(spare), members - len(seats))
        seats += spare[:beside]
        for _ in range(members - len(seats)):
            seats.append(len(self.bundles))
            self.bundles.append(dict(need))
            self.selectors.append(selector)
        return tuple(seats)

    def _share(self, need: Bundle, selector: Selector, members: int) -> list[int]:
        shared: dict[int, Selector | None] = {}  # by identity: few selectors, many bundles
        seats: list[int] = []
        for index, theirs in enumerate(self.selectors):
            if len(seats) == members:
                break
            if id(theirs) not in shared:
                shared[id(theirs)] = self._common(theirs, selector)
            common = shared[id(theirs)]
            if common is not None:
                seats.append(index)
                self.selectors[index] = common
                _grow(self.bundles[index], need)
        return seats

    def _common(self, one: Selector, other: Selector) -> Selector | None:
        """The labels of a bundle of both, or ``None`` where they do not share one."""
        if one == other:
            return one
        common = None if self._apart else combine(one, other)
        if common is None or not self._nodes:
            return common
        live = (node for node in self._nodes if node.alive)
        return common if any(matches(common, node.labels) for node in live) else None


def _grow(bundle: dict[str, float], need: Bundle) -> None:
    for name, amount in need.items():
        bundle[name] = max(bundle.get(name, 0.0), amount)


def _times(bundle: Bundle, need: Bundle) -> int:
    return min(int((bundle.get(name, 0.0) + EPSILON) / amount) for name, amount in need.items())
