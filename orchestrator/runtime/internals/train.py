"""How do Ray Train's workers come to lie in a reservation that somebody else owns?

Ray Train creates a placement group of its own for its workers, outside any joint reservation.
Seams of Ray 2.60 let ours be handed in: ``TrainController`` names its ``worker_group_cls``,
``WorkerGroup._create_placement_group`` makes the group, ``WorkerGroup._create_workers`` chooses
bundles and gives out ranks, and ``TorchTrainer._initialize_and_run_controller`` chooses the
controller.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback, WorkingDirectorySetupCallback
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
    DefaultPlacementGroupHandle,
)
from ray.train.v2._internal.execution.worker_group.worker import Worker
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.coordinator.assignment import Assignment
from orchestrator.plan.selectors import NODE_ID
from orchestrator.runtime.prewarm import import_training
from orchestrator.storage import Storage

RESERVATION = "axis_reservation"
"""The key under which ``train_loop_config`` carries the reservation to the worker group."""

WORKER_SETUP_HOOK = "orchestrator.runtime.prewarm.import_training"
"""Imported by each training worker at process start, where it overlaps with scheduling."""

_STANDBY_SECONDS = 60.0
"""A worker that is still importing answers when it has."""


@dataclass(frozen=True)
class Reservation:
    """Bundles of a placement group that somebody else owns, and which rank is to lie where.

    ``standbys`` are workers by their node, whose processes were started before.
    """

    placement_group: PlacementGroup
    assignment: Assignment
    standbys: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def bundles(self) -> tuple[int, ...]:
        """Bundle ``i`` holds worker ``i``."""
        return self.assignment.gang.training


class _Borrowed(DefaultPlacementGroupHandle):  # type: ignore[misc]
    """A placement group that outlives the worker group: shutting down leaves it standing."""

    def shutdown(self) -> None:
        return


class _GangWorkerGroup(WorkerGroup):  # type: ignore[misc]
    """Places its workers into a reservation instead of making a placement group."""

    def _reservation(self) -> Reservation:
        config = self._train_run_context.train_loop_config
        reservation = config[RESERVATION]
        assert isinstance(reservation, Reservation)
        return reservation

    def _create_placement_group(self, *_: Any) -> Any:
        return _Borrowed(self._reservation().placement_group)

    def _create_workers(
        self,
        num_workers: int,
        placement_group: PlacementGroup,
        resources_per_worker: dict[str, float],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        reservation = self._reservation()
        bundles = list(reservation.bundles[:num_workers])
        warm = _warm(reservation, bundles, resources_per_worker)
        cold = [bundle for bundle in bundles if bundle not in warm]
        created = []
        if cold:
            kwargs["placement_group_bundle_indices"] = cold
            created = super()._create_workers(
                len(cold), placement_group, resources_per_worker, *args, **kwargs
            )
        if warm:
            created = WorkerGroup._assign_worker_ranks([*created, *warm.values()], 0, None, None)
        return _seated(created, reservation.assignment)


def _warm(
    reservation: Reservation, bundles: Sequence[int], resources: dict[str, float]
) -> dict[int, Worker]:
    """Workers out of standbys, by their bundle; as many as there are on the bundle's node. Those
    that do not answer are left out."""
    left = {node: list(actors) for node, actors in reservation.standbys.items()}
    nodes = reservation.assignment.nodes
    taken = {bundle: left[nodes[bundle]].pop() for bundle in bundles if left.get(nodes[bundle])}
    asked = {actor.get_metadata.remote(): bundle for bundle, actor in taken.items()}
    if not asked:
        return {}
    answered = ray.wait(list(asked), num_returns=len(asked), timeout=_STANDBY_SECONDS)[0]
    workers = {}
    for answer in answered:
        with suppress(ray.exceptions.RayError):
            bundle = asked[answer]
            actor, metadata = taken[bundle], ray.get(answer)
            workers[bundle] = Worker(
                actor, metadata, resources, placement_group_bundle_index=bundle
            )
    return workers


def _seated(workers: list[Any], assignment: Assignment) -> list[Any]:
    """The workers, whom Ray Train ranks node by node, ranked as they were assigned."""
    ranks = assignment.ranks_on([worker.metadata.node_id for worker in workers])
    for worker, rank in zip(workers, ranks, strict=True):
        context = worker.distributed_context
        worker.distributed_context = replace(context, world_rank=rank)
    return sorted(workers, key=lambda worker: int(worker.distributed_context.world_rank))


class _GangController(TrainController):  # type: ignore[misc]
    """A controller that can be up before it is known what it is to control."""

    worker_group_cls = _GangWorkerGroup

    def __init__(self, env_vars: dict[str, str]) -> None:
        # Set here rather than by a runtime_env, which would cost a process of its own.
        os.environ.update(env_vars)
        import_training()

    async def take_up(self, **kwargs: Any) -> None:
        """What ``TrainController`` does when it is made."""
        super().__init__(**kwargs)


class _GangTrainer(TorchTrainer):  # type: ignore[misc]
    """A ``TorchTrainer`` whose workers live in a reservation that the coordinator owns."""

    controller: Any = None
    on_controller: Callable[[Any], None] | None = None

    def _create_default_callbacks(self) -> list[Any]:
        # The reservation is not Ray Train's to clean up; workers stay in the working directory,
        # so that relative paths mean the same everywhere; there are no datasets to split, and
        # their manager would be one more process beside the workers.
        unwanted = (
            DatasetsCallback,
            PlacementGroupCleanerCallback,
            WorkingDirectorySetupCallback,
        )
        return [
            callback
            for callback in super()._create_default_callbacks()
            if not isinstance(callback, unwanted)
        ]

    def _initialize_and_run_controller(self, **controller_init_kwargs: Any) -> Any:
        controller = self.controller or spare_controller()
        if self.on_controller is not None:
            self.on_controller(controller)
        ray.get(controller.take_up.remote(**controller_init_kwargs))
        # Unbounded on purpose: the caller watches progress and kills the controller.
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())


def fit_in_reservation(
    worker: Callable[[dict[str, Any]], Any],
    config: dict[str, Any],
    reservation: Reservation,
    resources: dict[str, float],
    *,
    backend: str,
    name: str,
    storage: Storage,
    env_vars: dict[str, str],
    timeout_seconds: int,
    on_controller: Callable[[Any], None],
    controller: Any = None,
) -> Any:
    """Run ``worker(config)`` on one Ray Train worker per bundle, and wait for all of them.

    Returns what rank 0 returned.

    ``on_controller`` receives the handle of Ray Train's controller actor; killing that actor
    ends the workers and makes this call raise. ``controller`` is a spare one to be used, if there
    is one. Raises what ``TorchTrainer.fit`` raises.
    """
    trainer = _GangTrainer(
        worker,
        train_loop_config={**config, RESERVATION: reservation},
        torch_config=TorchConfig(backend=backend, timeout_s=timeout_seconds),
        scaling_config=ScalingConfig(
            num_workers=len(reservation.bundles),
            use_gpu=resources.get("GPU", 0) > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=name,
            # Not its URI, which may hold references that only we look up.
            storage_path=storage.root,
            storage_filesystem=None if storage.is_local else storage.filesystem,
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env=_worker_environment(env_vars),
        ),
    )
    trainer.on_controller, trainer.controller = on_controller, controller
    return trainer.fit().return_value


def spare_controller() -> Any:
    """A controller of Ray Train, on this node, that waits for something to control."""
    node = ray.get_runtime_context().get_node_id()
    actor_class = ray.remote(num_cpus=0, label_selector={NODE_ID: node})(_GangController)
    return actor_class.remote(get_env_vars_to_propagate())


def standby_worker(where: Mapping[str, Any], env_vars: Mapping[str, str]) -> Any:
    """A worker of Ray Train that occupies nothing and waits for a group to belong to; ``where`` is
    ``on_node`` or ``inside_bundle``."""
    environment = _worker_environment({**get_env_vars_to_propagate(), **env_vars})
    actor_class = ray.remote(num_cpus=0, runtime_env=environment, **where)(WorkerGroup._worker_cls)
    return actor_class.remote()


def on_node(node: str) -> dict[str, Any]:
    """Options of an actor that is to lie on a node, whoever holds what there."""
    return {"label_selector": {NODE_ID: node}}


def inside_bundle(group: PlacementGroup, bundle: int) -> dict[str, Any]:
    """Options of an actor that is to lie in a bundle, and to end with its group."""
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, bundle)}


def _worker_environment(env_vars: Mapping[str, str]) -> dict[str, Any]:
    return {"worker_process_setup_hook": WORKER_SETUP_HOOK, "env_vars": dict(env_vars)}


def worker_exceptions(error: BaseException) -> dict[int, BaseException]:
    """Rank → what that worker raised, from what ``TorchTrainer.fit`` raised; may be empty."""
    failures = getattr(error, "worker_failures", None) or {}
    return {int(rank): failure for rank, failure in failures.items()}
