"""How long does one decision about everybody take? 1,000 nodes × 8 devices, 64 waiting gangs.

Milliseconds of one ``coordinator.queue.schedule``, from values to values: no Ray, no clock, nothing
kept from the decision before. Beside it, what deciding is worth the trouble of: on the same nodes,
a first-fit of the same gangs that knows no meshes, no neighbourhoods, no priorities and no queue.
The cases: an empty cluster that takes all that fits; a full one, where every gang waits and each
has to be told why; a full one of elastic runs that make room for gangs of higher priority; and one
of reservations, where every gang has waited for so long that room is set aside for it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from benchmarks.comparison import Comparison, Outcome
from benchmarks.workplace import Workplace, say
from orchestrator.coordinator.entries import Holding, Schedule, Waiting
from orchestrator.coordinator.first_fit import first_fit
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.placement import Option
from orchestrator.coordinator.queue import RESERVE_AFTER_SECONDS, schedule
from orchestrator.coordinator.rooms import Rooms
from orchestrator.plan.mesh import Mesh

DEVICES = 8
GOAL_MILLISECONDS = 100.0
TOPOLOGY = ("nvlink-domain", "rack")
GOAL = "the goal of 100 ms"
FIRST_FIT = "first-fit alone"

Free = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Case:
    """One moment of a cluster; ``expect`` says whether the decision is the one that was meant."""

    name: str
    waiting: list[Waiting]
    holding: list[Holding]
    free: Free
    expect: Callable[[Schedule], bool]


def measure(place: Workplace) -> Outcome:
    """Milliseconds of each case, and of what it is compared with."""
    num_nodes, num_gangs = place.size(1000, 100), 64
    runs = place.size(15, 3)
    nodes = [_node(index) for index in range(num_nodes)]
    comparisons, extras = [], {}
    for case in cases(nodes, num_gangs):
        ours, theirs = _measured(case, nodes, runs)
        goal = [GOAL_MILLISECONDS] * runs
        comparisons.append(Comparison(case.name, "ms", ours, goal, GOAL, 1.0, False))
        comparisons.append(Comparison(case.name, "ms", ours, theirs, FIRST_FIT, None, False))
        said = _decide(case, nodes)
        extras[case.name] = {
            "granted": len(said.grants),
            "waiting": len(said.positions),
            "shrinks": len(said.shrinks),
            "reservations": len(said.reservations),
            "slowest_ms": max(ours),
        }
        say(f"{case.name}: {median(ours):.1f} ms, first-fit {median(theirs):.1f} ms")
    return Outcome(
        f"Placement: one decision for {num_nodes} nodes × {DEVICES} devices and {num_gangs} "
        "waiting gangs",
        comparisons,
        settings={"nodes": num_nodes, "devices": DEVICES, "gangs": num_gangs, "runs": runs},
        extras=extras,
        notes=["gangs are built afresh for every decision, so that nothing is remembered"],
    )


def cases(nodes: list[Node], num_gangs: int) -> list[Case]:
    """The moments that are measured, on these nodes."""
    total = len(nodes) * DEVICES
    free: Free = {node.id: dict(node.resources) for node in nodes}
    waiting = [_waiting(index, total // 5) for index in range(num_gangs)]
    fixed, elastic = _full(nodes, elastic=False), _full(nodes, elastic=True)
    none: Free = {node.id: {} for node in nodes}
    urgent = [replace(each, priority=1) for each in waiting]
    patient = [replace(each, waited_seconds=RESERVE_AFTER_SECONDS) for each in waiting]
    return [
        Case("an empty cluster", waiting, [], free, lambda said: len(said.grants) > 0),
        Case("a full cluster", waiting, fixed, none, lambda said: not said.grants),
        Case("elastic runs make room", urgent, elastic, none, lambda said: len(said.shrinks) > 0),
        Case("room is set aside", patient, fixed, none, lambda said: len(said.reservations) > 0),
    ]


def _measured(case: Case, nodes: list[Node], runs: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    for _ in range(runs):
        fresh = _afresh(case)
        taken, said = _milliseconds(lambda: _decide(fresh, nodes))  # noqa: B023
        assert case.expect(said), case.name
        ours.append(taken)
        fresh = _afresh(case)
        theirs.append(_milliseconds(lambda: _first_fit(fresh, nodes))[0])  # noqa: B023
    return ours, theirs


def _milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    began = time.perf_counter()
    found = work()
    return (time.perf_counter() - began) * 1e3, found


def _decide(case: Case, nodes: list[Node]) -> Schedule:
    return schedule(case.waiting, case.holding, nodes, case.free)


def _first_fit(case: Case, nodes: list[Node]) -> int:
    """How many gangs fit one after another, each where the first room is."""
    rooms, count = Rooms(nodes, case.free), 0
    for each in case.waiting:
        for option in each.options:
            found = first_fit(option.gang.counts, rooms)
            if found is not None:
                for need, taken in found.items():
                    for node, number in taken:
                        rooms.take(node, need.shape, number)
                count += 1
                break
    return count


def _afresh(case: Case) -> Case:
    """The same case with gangs that nobody has looked at."""
    return replace(
        case,
        waiting=[replace(each, options=_options_afresh(each.options)) for each in case.waiting],
        holding=[
            replace(each, gang=replace(each.gang), options=_options_afresh(each.options))
            for each in case.holding
        ],
    )


def _options_afresh(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return tuple(replace(option, gang=replace(option.gang)) for option in options)


def _node(index: int) -> Node:
    resources = {"CPU": 64.0, "GPU": float(DEVICES), "memory": 2.0**40}
    labels = {"nvlink-domain": f"nv{index // 4}", "rack": f"rack{index // 16}"}
    return Node(f"node-{index:04}", resources, {**labels, "ray.io/node-id": f"node-{index:04}"})


def _gang(workers: int, cpu: float) -> Gang:
    return Gang(tuple({"CPU": cpu, "GPU": 1.0} for _ in range(workers)), tuple(range(workers)))


def _waiting(index: int, most: int) -> Waiting:
    """Gangs of all sizes and of eight shapes: fixed and elastic, plain and with tensor·pipeline
    groups."""
    tensor, pipeline = (1, 1) if index % 2 else (8, 2 if index % 4 else 4)
    group, cpu = tensor * pipeline, 1.0 + index % 8 / 8
    counts = sorted({group * max(1, min(most, 8 << index % 8) // (group * part)) for part in
                     ((1, 2, 4) if index % 3 else (1,))}, reverse=True)  # fmt: skip
    options = tuple(
        Option(count, _gang(count, cpu), Mesh(tensor=tensor, pipeline=pipeline,
                                              shard=count // group))
        for count in counts
    )  # fmt: skip
    return Waiting(run=f"run-{index:02}", arrived=index, options=options, topology=TOPOLOGY)


def _full(nodes: list[Node], elastic: bool) -> list[Holding]:
    """Every device is held, by runs of 32 nodes each."""
    found = []
    for start in range(0, len(nodes), 32):
        names = [node.id for node in nodes[start : start + 32] for _ in range(DEVICES)]
        workers = len(names)
        counts = (workers, workers // 2, workers // 4) if elastic else (workers,)
        options = tuple(Option(c, _gang(c, 1.0), Mesh(shard=c)) for c in counts)
        found.append(
            Holding(run=f"held-{start:04}", arrived=start, options=options,
                    gang=options[0].gang, nodes=tuple(names), topology=TOPOLOGY)
        )  # fmt: skip
    return found
