"""Which bundles does a plan need, all or none?

Pure arithmetic from the plan to bundles. Does not know which nodes there are (``preflight``)
nor how bundles are reserved.

In ``batch`` mode the phases follow one another, so data tasks, workers and replicas take turns
in the same bundles. Bundle *i* is the elementwise maximum of what worker *i*, data task *i*
and replica *i* need. Where an axis has more members than there are bundles, the further ones
share a bundle with members of their own axis if they fit beside them, and get one of their
own only if not: two data tasks of half a CPU share the bundle of a single one-CPU worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.plan import Plan

Bundle = Mapping[str, float]

TINY_BUNDLE: Bundle = {"CPU": 0.001}
"""What a member that asks for nothing gets: Ray reserves no empty bundle."""

EPSILON = 1e-6
"""Finer than Ray's own resolution of resources (1e-4)."""


@dataclass(frozen=True)
class Gang:
    """Bundles that are reserved all or not at all, and who uses which.

    ``training[i]`` is the index of the bundle of worker *i*; ``data`` and ``inference``
    likewise for data tasks and replicas.
    """

    bundles: tuple[Bundle, ...]
    training: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    inference: tuple[int, ...] = ()
    strategy: Literal["PACK", "SPREAD"] = "PACK"

    @property
    def workers(self) -> int:
        """K: how many training workers the gang holds."""
        return len(self.training)

    @property
    def total(self) -> dict[str, float]:
        """The sum of all bundles per resource."""
        names = sorted({name for bundle in self.bundles for name in bundle})
        return {name: sum(bundle.get(name, 0.0) for bundle in self.bundles) for name in names}


def gang(
    plan: Plan,
    workers: int,
    *,
    tasks: int | None = None,
    replicas: int | None = None,
    strategy: Literal["PACK", "SPREAD"] = "PACK",
) -> Gang:
    """The gang for ``workers`` training workers; 0: training is done, replicas alone.

    ``tasks`` and ``replicas`` default to the plan's (of an autoscaling range its minimum: what
    the app can count on).
    """
    bundles: list[dict[str, float]] = []
    training = _seat(bundles, worker_bundle(plan), workers)
    num_tasks = 0 if workers == 0 else (plan.data.tasks if tasks is None else tasks)
    data = _seat(bundles, _need(plan.data.resources.as_ray()), num_tasks)
    inference: tuple[int, ...] = ()
    if plan.inference is not None:
        num_replicas = plan.inference.replicas.min if replicas is None else replicas
        inference = _seat(bundles, _need(plan.inference.resources.as_ray()), num_replicas)
    return Gang(tuple(bundles), training, data, inference, strategy)


def worker_bundle(plan: Plan) -> Bundle:
    """What one training worker needs; its bundle in a gang holds at least that."""
    return _need(plan.training.resources.as_ray())


def _need(resources: Bundle) -> Bundle:
    return resources or TINY_BUNDLE


def _seat(bundles: list[dict[str, float]], need: Bundle, members: int) -> tuple[int, ...]:
    """Give each of ``members`` a bundle: one each while there are bundles, which grow as
    needed; then room left beside members of the same axis; then new bundles."""
    seats = list(range(min(members, len(bundles))))
    for index in seats:
        _grow(bundles[index], need)
    rooms = [[index] * (_times(bundles[index], need) - 1) for index in seats]
    spare = [index for room in rooms for index in room]
    for _ in range(members - len(seats)):
        if spare:
            seats.append(spare.pop(0))
        else:
            bundles.append(dict(need))
            seats.append(len(bundles) - 1)
    return tuple(seats)


def _grow(bundle: dict[str, float], need: Bundle) -> None:
    for name, amount in need.items():
        bundle[name] = max(bundle.get(name, 0.0), amount)


def _times(bundle: Bundle, need: Bundle) -> int:
    return min(int((bundle.get(name, 0.0) + EPSILON) / amount) for name, amount in need.items())
