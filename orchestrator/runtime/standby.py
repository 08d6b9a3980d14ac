"""Which processes are up before they are needed, so that nothing waits for imports?

The workers of a group and their controller are started as soon as its place is known, while
samples are still being prepared. Once a group steps, a standby for each worker waits on the same
node, for the group after it. They occupy no resources but memory. On nodes with GPUs there are
none: a process gets its devices when it is started inside a bundle, and not later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

from orchestrator.coordinator.assignment import Assignment
from orchestrator.plan.plan import Plan
from orchestrator.runtime.internals.train import (
    inside_bundle,
    on_node,
    spare_controller,
    standby_worker,
)

_ALIVE_SECONDS = 2.0


@dataclass(frozen=True)
class Warm:
    """What a group may use: workers by node, and a controller."""

    workers: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    controller: Any = None

    def kill(self) -> None:
        """End those that are still there."""
        _kill([actor for actors in self.workers.values() for actor in actors])


@dataclass
class _Standby:
    actor: Any
    ready: Any


class Standbys:
    """The standbys of one run, kept by its driver and ending with it."""

    def __init__(self, plan: Plan, env_vars: dict[str, str]) -> None:
        self._plan, self._env_vars = plan, env_vars
        self._by_node: dict[str, list[_Standby]] = {}
        self._controller: Any = None
        self._settled_at: float | None = None
        self._lock = threading.Lock()
        self._possible = not plan.training.resources.gpu
        self._wanted = plan.coordination.standby and self._possible
        self._after = plan.coordination.standby_after

    def start_early(self, reservation: tuple[Assignment, PlacementGroup]) -> None:
        """Start what the group needs, inside its bundles, before it is time to train."""
        if not self._possible:
            return
        assignment, group = reservation
        wanted = Counter(assignment.nodes_by_rank)
        with self._lock:
            self._need_controller()
            for bundle in assignment.gang.training:
                node = assignment.nodes[bundle]
                beside = self._by_node.setdefault(node, [])
                if len(beside) < wanted[node]:
                    beside.append(self._standby(inside_bundle(group, bundle)))

    def tend(self, nodes: Sequence[str]) -> None:
        """See to it that each worker, of which ``nodes`` has the nodes, has one beside it; called
        again and again while the group steps."""
        now = time.monotonic()
        self._settled_at = self._settled_at or now
        if not self._wanted or now - self._settled_at < self._after:
            return
        with self._lock:
            self._need_controller()
            for node, count in Counter(nodes).items():
                beside = self._by_node.setdefault(node, [])
                while len(beside) < count:
                    beside.append(self._standby(on_node(node)))

    def take(self, assignment: Assignment) -> Warm:
        """Those that lie where the group will, best those that are up already; they are not kept
        here any longer."""
        with self._lock:
            self._settled_at = None
            controller, self._controller = self._controller, None
            found: dict[str, tuple[Any, ...]] = {}
            for node, count in Counter(assignment.nodes_by_rank).items():
                usable = _usable(self._by_node.get(node, []))
                self._by_node[node] = usable[count:]
                found[node] = tuple(each.actor for each in usable[:count])
            return Warm(found, controller)

    def _need_controller(self) -> None:
        if self._controller is None:
            self._controller = spare_controller()

    def _standby(self, where: dict[str, Any]) -> _Standby:
        actor = standby_worker(where, self._env_vars)
        return _Standby(actor, actor.execute.remote(_import_all, self._plan.job, str(Path.cwd())))

    def close(self) -> None:
        """End all that nobody has taken."""
        with self._lock:
            _kill([each.actor for beside in self._by_node.values() for each in beside])
            _kill([self._controller] if self._controller is not None else [])
            self._by_node, self._controller = {}, None


def _usable(standbys: list[_Standby]) -> list[_Standby]:
    """Those that have imported everything and still answer, then those that are at it; not those
    that are gone."""
    done = _ready([each.ready for each in standbys], 0.0)
    up = [each for each in standbys if each.ready in done]
    pings = {each.actor.get_metadata.remote(): each for each in up}
    answered = _ready(list(pings), _ALIVE_SECONDS)
    alive = [pings[ping] for ping in answered if _succeeded(ping)]
    return [*alive, *(each for each in standbys if each.ready not in done)]


def _ready(calls: list[Any], timeout_seconds: float) -> list[Any]:
    if not calls:
        return []
    found: list[Any] = ray.wait(calls, num_returns=len(calls), timeout=timeout_seconds)[0]
    return found


def _succeeded(call: Any) -> bool:
    with suppress(ray.exceptions.RayError):
        ray.get(call)
        return True
    return False


def _kill(actors: list[Any]) -> None:
    for actor in actors:
        with suppress(ray.exceptions.RayError):
            ray.kill(actor, no_restart=True)


def _import_all(job: str, working_directory: str) -> None:
    """What a worker imports, the Job's module too; runs in the standby."""
    from orchestrator.job_import import add_working_directory, import_target
    from orchestrator.runtime.prewarm import import_training

    if Path(working_directory).is_dir():
        add_working_directory(working_directory)
    import_training()
    import_target(job, "job")
