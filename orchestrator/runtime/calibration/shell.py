"""How is a cluster measured? Real workers, placed as a run's would be, time what they do.

Workers of all nodes measure at the same time: in a run they share memory, clocks and links, too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.errors import DeadlineExceeded, InfeasibleError, PlacementTimeout
from orchestrator.planner.calibration.timings import (
    DiskTimings,
    ExchangeTiming,
    LayerTiming,
    RayTimings,
    Timings,
    WorkerTimings,
)
from orchestrator.runtime.calibration.worker import MeasuringWorker
from orchestrator.runtime.cluster import live_nodes

MOST_PER_NODE, MOST_NODES = 8, 4
"""So many workers measure at the most: more of them say nothing new in two minutes."""

_PLACED_SECONDS = 60.0
_ANSWER_SECONDS = 150.0
_RAY_TIMES = 3
_OBJECTS = (10**4, 10**6, 32 * 10**6)

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Room:
    """What there is to measure: devices by node, and of which kind."""

    kind: str
    per_node: int
    nodes: int

    @property
    def bundles(self) -> list[dict[str, float]]:
        used = min(self.per_node, MOST_PER_NODE)
        one = {"CPU": 1.0, "GPU": 1.0} if self.kind == "gpu" else {"CPU": 1.0}
        return [dict(one) for _ in range(used * min(self.nodes, MOST_NODES))]


def measure_cluster(storage_uri: str, say: Say) -> Timings:
    """Time everything on the connected cluster; what was started for it is gone afterwards.

    Raises ``InfeasibleError`` on a cluster without cores, ``PlacementTimeout`` when others hold
    it, ``DeadlineExceeded`` when a measurement does not end.
    """
    room = _room()
    say("Ray itself …")
    placed = [_placed(room.bundles)]
    while len(placed) < _RAY_TIMES:
        remove_placement_group(placed[-1][0])
        placed.append(_placed(room.bundles))
    group = placed[-1][0]
    try:
        took = median(seconds for _, seconds in placed)
        return _measured(room, group, took, storage_uri, say)
    finally:
        remove_placement_group(group)


def _measured(
    room: _Room, group: PlacementGroup, placed: float, storage_uri: str, say: Say
) -> Timings:
    workers = _workers(group, len(room.bundles))
    nodes, ranks = _met(workers)
    ray_timings = _ray_timings(workers[-1], placed)
    say(f"{len(workers)} workers compute at once …")
    answers = _all([worker.compute.remote() for worker in workers], "kernels")
    computed: list[WorkerTimings] = [timings for timings, _ in answers]
    memory = _all([workers[0].memory_bytes.remote()], "the size of the memory")[0]
    within = _exchanges(workers, ranks[0], say, "within a node")
    between = _exchanges(workers, [each[0] for each in ranks], say, "between nodes")
    layers = _layers(workers, ranks[0][:2], say) if room.kind == "cpu" else ()
    pace = _pace(workers, say) if room.kind == "cpu" else ()
    say(f"storage: {storage_uri} …")
    disks: list[DiskTimings] = _all([w.disk.remote(storage_uri) for w in workers], "storage")
    return Timings(
        kind="gpu" if room.kind == "gpu" else "cpu",
        model_name=answers[0][1],
        per_node=room.per_node,
        num_nodes=len(nodes),
        num_workers=len(workers),
        memory_bytes=memory if room.kind == "gpu" else memory // room.per_node,
        workers=tuple(computed),
        within=within,
        between=between,
        layers=layers,
        pace=pace,
        ray=ray_timings,
        disk=DiskTimings(
            median(each.write_bytes_per_second for each in disks),
            median(each.read_bytes_per_second for each in disks),
        ),
        versions={name: version(name) for name in ("torch", "ray")},
    )


def _room() -> _Room:
    """Devices of the cluster: GPUs where there are any, else cores; nodes taken as alike, by the
    number that most of them have."""
    nodes = live_nodes()
    kind, resource = "gpu", "GPU"
    if not any(node.resources.get("GPU") for node in nodes):
        kind, resource = "cpu", "CPU"
    counts = [int(node.resources.get(resource, 0)) for node in nodes]
    counts = [count for count in counts if count > 0]
    if not counts:
        raise InfeasibleError("no node of the cluster offers a core or a GPU to be measured")
    usual = Counter(counts).most_common(1)[0][0]
    return _Room(kind, usual, counts.count(usual))


def _placed(bundles: Sequence[dict[str, float]]) -> tuple[PlacementGroup, float]:
    """A placement group, and in which time it was there."""
    begun = time.perf_counter()
    group = placement_group(list(bundles), strategy="PACK")
    if group.wait(_PLACED_SECONDS):
        return group, time.perf_counter() - begun
    remove_placement_group(group)
    raise PlacementTimeout(
        f"{len(bundles)} bundles of {dict(bundles[0])} were not placed within "
        f"{_PLACED_SECONDS:g} s: others use the cluster, and what they use cannot be measured; "
        "works: wait until it is idle"
    )


def _workers(group: PlacementGroup, size: int) -> list[Any]:
    gpus = 1 if "GPU" in group.bundle_specs[0] else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus)(MeasuringWorker)
    return [
        actor.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=rank
            ),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}},
        ).remote(rank, size)
        for rank in range(size)
    ]


def _met(workers: Sequence[Any]) -> tuple[list[str], list[list[int]]]:
    """Form the world's process group; the nodes, and the ranks on each."""
    places = _all([worker.place.remote() for worker in workers], "the places of the workers")
    nodes = list(dict.fromkeys(node for node, _, _ in places))
    _, address, port = places[0]
    _all([worker.join.remote(address, port) for worker in workers], "the process group")
    ranks = [[rank for rank, place in enumerate(places) if place[0] == node] for node in nodes]
    return nodes, ranks


def _exchanges(
    workers: Sequence[Any], ranks: list[int], say: Say, where: str
) -> tuple[ExchangeTiming, ...]:
    if len(ranks) < 2:
        return ()
    say(f"collectives of {len(ranks)} ranks {where} …")
    answers = _all([worker.exchanges.remote(ranks) for worker in workers], f"collectives {where}")
    found: tuple[ExchangeTiming, ...] = answers[ranks[0]]
    return found


def _layers(workers: Sequence[Any], ranks: list[int], say: Say) -> tuple[LayerTiming, ...]:
    """On ``ranks`` alone; what the first of them says."""
    say("layers that are split or computed again …")
    answers = _all([worker.layers.remote(ranks) for worker in workers], "split layers")
    found: tuple[LayerTiming, ...] = answers[ranks[0]]
    return found


def _pace(workers: Sequence[Any], say: Say) -> tuple[tuple[float, ...], ...]:
    if len(workers) < 2:
        return ()
    say("the same work on all workers …")
    found: tuple[tuple[float, ...], ...] = _all([w.pace.remote() for w in workers], "the pace")[0]
    return found


def _ray_timings(worker: Any, placement_seconds: float) -> RayTimings:
    """Of an actor on this cluster, and of objects from here to a worker that is as far as any."""
    starts = [_actor_seconds() for _ in range(_RAY_TIMES)]
    transfers = []
    for size in _OBJECTS:
        seconds = [_transfer_seconds(worker, bytes(size)) for _ in range(_RAY_TIMES)]
        transfers.append((size, median(seconds)))
    return RayTimings(median(starts), placement_seconds, tuple(transfers))


def _actor_seconds() -> float:
    begun = time.perf_counter()
    actor = ray.remote(num_cpus=0)(MeasuringWorker).remote(0, 1)
    _all([actor.take.remote(b"")], "an actor's start")
    seconds = time.perf_counter() - begun
    ray.kill(actor)
    return seconds


def _transfer_seconds(worker: Any, value: bytes) -> float:
    begun = time.perf_counter()
    _all([worker.take.remote(ray.put(value))], "an object's transfer")
    return time.perf_counter() - begun


def _all(asked: Sequence[Any], what: str) -> list[Any]:
    try:
        found: list[Any] = ray.get(list(asked), timeout=_ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise DeadlineExceeded(
            f"measuring {what} did not end within {_ANSWER_SECONDS:g} s"
        ) from error
    return found
