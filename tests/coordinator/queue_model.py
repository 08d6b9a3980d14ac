"""A cluster that does what the queue decides, for tests: runs come, start, shrink, grow and end.

After every decision it checks that nothing is granted twice, no node is over-committed, nobody's
claim is touched, and no gang is granted in part.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.coordinator.entries import Claim, Holding, Schedule, Waiting
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.placement import Option
from orchestrator.coordinator.queue import schedule
from orchestrator.plan import Mesh
from tests.coordinator.clusters import workers_of

SECONDS = 10.0
"""What passes from one decision to the next."""


def sizes(*counts: int, cpu: float = 1.0) -> tuple[Option, ...]:
    """Ways to carry a run out with so many workers each, all alike."""
    return tuple(
        Option(count, workers_of(count, cpu), Mesh(shard=count))
        for count in sorted(counts, reverse=True)
    )


def mixed(chance: random.Random, workers: int) -> Option:
    """A gang of any make: tensor groups, pipelines, labels, bundles that are larger, bundles
    without workers, replicas."""
    tensor = chance.choice([1, 1, 2])
    workers = max(1, workers // tensor) * tensor
    halves = workers // tensor % 2 == 0 and chance.random() < 0.3
    mesh = Mesh(tensor=tensor, pipeline=1 + halves, shard=workers // tensor // (1 + halves))
    larger, others = chance.randint(0, 2), chance.randint(0, 2)
    bundles = [{"CPU": 1.5 if index < larger else 1.0} for index in range(workers)]
    bundles += [{"CPU": 0.5}] * others
    asked: dict[str, str] = {"rack": "x"} if chance.random() < 0.3 else {}
    selectors = tuple(asked if index < workers else {} for index in range(len(bundles)))
    inference = tuple(chance.sample(range(len(bundles)), chance.randint(0, 1)))
    gang = Gang(tuple(bundles), tuple(range(workers)), inference=inference, selectors=selectors)
    return Option(workers, gang, mesh)


@dataclass
class Model:
    """The nodes, and who is where. ``asked`` are all sizes of each run, also the large ones that
    it may not take while it makes room."""

    nodes: Sequence[Node]
    waiting: dict[str, Waiting] = field(default_factory=dict)
    holding: dict[str, Holding] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    asked: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    said: Schedule = field(default_factory=Schedule)
    num_came: int = 0

    def come(self, run: str, options: tuple[Option, ...], priority: int = 0, **more: Any) -> None:
        self.num_came += 1
        self.asked[run] = options
        self.waiting[run] = Waiting(
            run=run, priority=priority, arrived=self.num_came, options=options, **more
        )

    def end(self, run: str) -> None:
        del self.holding[run]

    def arrived(self, run: str) -> int:
        return self.holding[run].arrived

    def free(self) -> dict[str, dict[str, float]]:
        """What nobody holds; the claims of runs that wait are part of it."""
        left = {node.id: dict(node.resources) for node in self.nodes}
        for held in self.holding.values():
            _less(left, held.gang.bundles, held.nodes)
        return left

    def decide(self) -> Schedule:
        """One decision, checked and carried out, but for shrinking and growing."""
        free, claims = self.free(), tuple(self.claims.values())
        self.said = schedule(
            tuple(self.waiting.values()), tuple(self.holding.values()), self.nodes, free, claims
        )
        self._check()
        for grant in self.said.grants:
            entry = self.waiting.pop(grant.run)
            self.claims.pop(grant.run, None)
            self.holding[grant.run] = Holding(
                run=grant.run, priority=entry.priority, arrived=entry.arrived,
                options=self.asked[grant.run], gang=grant.assignment.gang,
                nodes=grant.assignment.nodes,
            )  # fmt: skip
        for shrink in self.said.shrinks:
            held = self.holding[shrink.run]
            assert shrink.workers < (held.yielding or held.workers)
            self.holding[shrink.run] = replace(held, yielding=shrink.workers)
            self._kept[shrink.run] = Claim(
                shrink.run, shrink.assignment.gang, shrink.assignment.nodes
            )
        for run, entry in self.waiting.items():
            self.waiting[run] = replace(
                entry,
                waited_seconds=entry.waited_seconds + SECONDS,
                reserved=self.said.reservations.get(run),
            )
        self._no_room_is_used_twice()
        return self.said

    def settle(self) -> None:
        """The runs that were asked to shrink have stopped; each waits for its smaller gang."""
        for run, held in list(self.holding.items()):
            if held.yielding is not None:
                options = tuple(o for o in self.asked[run] if o.workers <= held.yielding)
                self._restart(held, options, self._kept.pop(run))

    def grow(self) -> None:
        """The runs that were offered more restart for it."""
        for offer in self.said.grows:
            held = self.holding.get(offer.run)
            if held is not None:
                own = Claim(offer.run, held.gang, held.nodes)
                self._restart(held, self.asked[offer.run], own)

    def __post_init__(self) -> None:
        self._kept: dict[str, Claim] = {}

    def _restart(self, held: Holding, options: tuple[Option, ...], claim: Claim) -> None:
        del self.holding[held.run]
        self.claims[held.run] = claim
        self.waiting[held.run] = Waiting(
            run=held.run, priority=held.priority, arrived=held.arrived, options=options
        )

    def _check(self) -> None:
        granted = [grant.run for grant in self.said.grants]
        assert len(granted) == len(set(granted))
        assert set(granted) <= set(self.waiting)
        left = sorted(set(self.waiting) - set(granted))
        assert sorted(position.run for position in self.said.positions) == left
        assert [p.place for p in self.said.positions] == [*range(1, len(left) + 1)]
        for grant in self.said.grants:
            assert grant.option in self.waiting[grant.run].options
            assert len(grant.assignment.nodes) == len(grant.option.gang.bundles)
            assert grant.assignment.gang == grant.option.gang
        for shrink in self.said.shrinks:
            held = self.holding[shrink.run]
            assert shrink.workers >= held.options[-1].workers
            by = next(each for each in self.waiting.values() if each.run == shrink.room_for)
            assert by.priority > held.priority

    def _no_room_is_used_twice(self) -> None:
        left = self.free()
        for claim in self.claims.values():
            _less(left, claim.gang.bundles, claim.nodes)
        assert all(amount >= -1e-6 for room in left.values() for amount in room.values()), left


def _less(left: dict[str, dict[str, float]], bundles: Any, nodes: Sequence[str]) -> None:
    for bundle, node in zip(bundles, nodes, strict=True):
        counted = Counter(left[node])
        counted.subtract(bundle)
        left[node] = dict(counted)
