"""Which internals of Ray are touched? All of them are here, and nowhere else.

Ray Train creates a placement group of its own for its workers, outside any joint
reservation. Seams of Ray 2.60 let ours be handed in: ``TrainController`` names its
``worker_group_cls``, ``WorkerGroup._create_placement_group`` makes the group,
``WorkerGroup._create_workers`` chooses bundles and gives out ranks, and
``TorchTrainer._initialize_and_run_controller`` chooses the controller. Ray Data takes a
scheduling strategy from its context. ``tests/runtime/test_internals.py`` fails loudly when
any of them moves.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray._private.worker
from ray.data import DataContext
from ray.data.dataset import MaterializedDataset
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
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.coordinator.seating import seat
from orchestrator.plan.mesh import Mesh

RESERVATION = "axis_reservation"
"""The key under which ``train_loop_config`` carries the reservation to the worker group."""

HEAD_NODE_RESOURCE = "node:__internal_head__"
"""The resource that Ray puts on the head node alone."""

WORKER_SETUP_HOOK = "orchestrator.runtime.prewarm.import_training"
"""Imported by each training worker at process start, where it overlaps with scheduling."""


@dataclass(frozen=True)
class Reservation:
    """Bundles of a placement group that somebody else owns: bundle ``i`` holds worker ``i``.

    ``mesh`` is what the workers form; their ranks are given out so that it suits the nodes.
    """

    placement_group: PlacementGroup
    bundles: tuple[int, ...]
    mesh: Mesh


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

    def _create_workers(self, num_workers: int, *args: Any, **kwargs: Any) -> Any:
        reservation = self._reservation()
        kwargs["placement_group_bundle_indices"] = list(reservation.bundles[:num_workers])
        workers = super()._create_workers(num_workers, *args, **kwargs)
        return _seated(workers, reservation.mesh)


def _seated(workers: list[Any], mesh: Mesh) -> list[Any]:
    """The workers, whom Ray Train ranks node by node, ranked as ``seat`` says, in that order."""
    ranks = seat(mesh, [worker.metadata.node_id for worker in workers])
    for worker, rank in zip(workers, ranks, strict=True):
        context = worker.distributed_context
        worker.distributed_context = replace(context, world_rank=rank)
    return sorted(workers, key=lambda worker: int(worker.distributed_context.world_rank))


class _GangController(TrainController):  # type: ignore[misc]
    worker_group_cls = _GangWorkerGroup

    def __init__(self, *, env_vars: dict[str, str], **kwargs: Any) -> None:
        # Set here rather than by a runtime_env, which would cost a process of its own.
        os.environ.update(env_vars)
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
        node = ray.get_runtime_context().get_node_id()
        actor_class = ray.remote(num_cpus=0, label_selector={"ray.io/node-id": node})(
            _GangController
        )
        controller = actor_class.remote(
            env_vars=get_env_vars_to_propagate(), **controller_init_kwargs
        )
        if self.on_controller is not None:
            self.on_controller(controller)
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
    storage_path: str,
    env_vars: dict[str, str],
    timeout_seconds: int,
    on_controller: Callable[[Any], None],
) -> Any:
    """Run ``worker(config)`` on one Ray Train worker per bundle, and wait for all of them.

    Returns what rank 0 returned.

    ``on_controller`` receives the handle of Ray Train's controller actor; killing that actor
    ends the workers and makes this call raise. Raises what ``TorchTrainer.fit`` raises.
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
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env={
                "worker_process_setup_hook": WORKER_SETUP_HOOK,
                "env_vars": env_vars,
            },
        ),
    )
    trainer.on_controller = on_controller
    return trainer.fit().return_value


def data_context(placement_group: PlacementGroup) -> DataContext:
    """A copy of Ray Data's context that keeps every task inside the reservation, in order,
    and silent."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current().copy()
    inside = PlacementGroupSchedulingStrategy(
        placement_group, placement_group_capture_child_tasks=True
    )
    with warnings.catch_warnings():
        # Deprecated in Ray 2.60 without a replacement that reaches every operator.
        warnings.simplefilter("ignore")
        context.scheduling_strategy = inside
        context.scheduling_strategy_large_args = inside
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    return context


def redirect_messages(sink: Callable[[str], None]) -> None:
    """Send what Ray prints on the driver's standard output about the cluster to ``sink``.

    Ray prints such messages even with ``log_to_driver=False``; standard output is ours.
    """

    def take(data: dict[str, Any], ignore_prefix: bool = False) -> None:  # noqa: ARG001
        sink(f"{data.get('pid', 'ray')}: " + "\n".join(map(str, data.get("lines", ()))))

    ray._private.worker.print_to_stdstream = take


def is_materialized(dataset: Any) -> bool:
    """Whether a Ray Dataset holds its blocks already, so that reading it starts no task."""
    return isinstance(dataset, MaterializedDataset)


def blocks_of(dataset: Any) -> list[tuple[Any, int]]:
    """The blocks of a materialized dataset in their order: object reference and rows."""
    return [
        (entry.ref, int(entry.metadata.num_rows or 0))
        for bundle in dataset.iter_internal_ref_bundles()
        for entry in bundle.blocks
    ]


def worker_exceptions(error: BaseException) -> dict[int, BaseException]:
    """Rank → what that worker raised, from what ``TorchTrainer.fit`` raised; may be empty."""
    failures = getattr(error, "worker_failures", None) or {}
    return {int(rank): failure for rank, failure in failures.items()}
