"""Fails loudly when a new Ray moves one of the seams that ``runtime.internals`` leans on."""

from __future__ import annotations

import inspect

import pytest

pytestmark = pytest.mark.unit


def test_the_controller_names_its_worker_group_class() -> None:
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    assert TrainController.worker_group_cls is WorkerGroup
    source = inspect.getsource(TrainController)
    assert "self.worker_group_cls.create(" in source or "worker_group_cls" in source


def test_the_worker_group_makes_its_placement_group_in_one_method() -> None:
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    parameters = inspect.signature(WorkerGroup._create_placement_group).parameters
    assert list(parameters) == ["self", "scaling_config", "worker_group_context"]
    start = inspect.getsource(WorkerGroup._start_impl)
    assert "self._create_placement_group(" in start
    assert "self._create_workers(" in start


def test_workers_can_be_put_into_chosen_bundles() -> None:
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    parameters = inspect.signature(WorkerGroup._create_workers).parameters
    assert "placement_group_bundle_indices" in parameters
    assert next(iter(list(parameters)[1:])) == "num_workers"


def test_workers_know_their_node_and_carry_a_rank_that_can_be_changed() -> None:
    from ray.train.v2._internal.execution.context import DistributedContext
    from ray.train.v2._internal.execution.worker_group import WorkerGroup
    from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata, Worker

    from orchestrator.coordinator.assign import assign
    from orchestrator.coordinator.assignment import Assignment
    from orchestrator.coordinator.gang import Gang
    from orchestrator.coordinator.node import Node
    from orchestrator.plan.mesh import Mesh
    from orchestrator.runtime.internals.train import _seated

    workers = []
    for index, node in enumerate("aabb"):
        metadata = ActorMetadata(node, node, node, index, {})
        worker = Worker(actor=None, metadata=metadata, resources={})
        worker.distributed_context = DistributedContext(index, 4, index % 2, 2, index // 2)
        workers.append(worker)
    mesh = Mesh(replicate=2, pipeline=2)
    nodes = [Node("a", {"CPU": 2}), Node("b", {"CPU": 2})]
    gang = Gang(tuple({"CPU": 1.0} for _ in range(4)), training=(0, 1, 2, 3))
    assignment = assign(gang, mesh, nodes)
    assert isinstance(assignment, Assignment)
    seated = _seated(workers, assignment)
    assert [worker.distributed_context.world_rank for worker in seated] == [0, 1, 2, 3]
    # replicas 0 and 1 are ranks (0, 2) and (1, 3): each pair shares a node
    assert [worker.metadata.node_id for worker in seated] == ["a", "b", "a", "b"]
    assert [worker.distributed_context.local_rank for worker in seated] == [0, 0, 1, 1]
    # Ray numbers the processes of torch by the order of this list.
    create = inspect.getsource(WorkerGroup._create_workers)
    assert "Sorted list of Workers sorted by world_rank" in create


def test_the_loop_configuration_reaches_the_worker_group() -> None:
    from ray.train.v2._internal.execution.context import TrainRunContext
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    assert "train_loop_config" in TrainRunContext.__dataclass_fields__
    assert "self._train_run_context = train_run_context" in inspect.getsource(WorkerGroup.__init__)


def test_the_trainer_chooses_the_controller_in_one_method() -> None:
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    assert issubclass(TorchTrainer, DataParallelTrainer)
    fit = inspect.getsource(DataParallelTrainer.fit)
    assert "self._initialize_and_run_controller(" in fit
    assert "self._create_default_callbacks()" in fit


def test_settings_reach_the_controller_through_a_known_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.train.v2._internal.constants import get_env_vars_to_propagate

    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    assert get_env_vars_to_propagate()["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.25"


def test_a_placement_group_handle_can_be_borrowed() -> None:
    from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
        DefaultPlacementGroupHandle,
    )

    assert {"placement_group", "ready", "wait", "shutdown"} <= set(dir(DefaultPlacementGroupHandle))


def test_a_failed_group_tells_which_workers_failed() -> None:
    from ray.train import WorkerGroupError

    error = WorkerGroupError("boom", {1: ValueError("x")})
    from orchestrator.runtime.internals.train import worker_exceptions

    assert str(worker_exceptions(error)[1]) == "x"
    assert worker_exceptions(RuntimeError("y")) == {}


def test_messages_of_the_cluster_go_through_one_function() -> None:
    import ray._private.worker as worker

    source = inspect.getsource(worker.listen_error_messages)
    assert "print_to_stdstream(" in source
    assert list(inspect.signature(worker.print_to_stdstream).parameters) == [
        "data",
        "ignore_prefix",
    ]


def test_ray_data_takes_a_scheduling_strategy() -> None:
    from ray.data import DataContext

    fields = DataContext.__dataclass_fields__
    assert "scheduling_strategy" in fields
    assert "scheduling_strategy_large_args" in fields
    assert "preserve_order" in inspect.getsource(type(DataContext().execution_options))


def test_ray_says_what_is_free_what_drains_and_where_actors_are() -> None:
    import ray._private.state as state
    from ray.train.v2._internal.execution import preemption

    assert callable(state.available_resources_per_node)
    assert "get_draining_nodes" in inspect.getsource(preemption._get_draining_nodes)
    described = inspect.getsource(type(state.state)._gen_actor_info)
    for field in ('"Name"', '"State"', '"Pid"'):
        assert field in described


def test_serve_names_its_replicas_after_their_application() -> None:
    from ray.serve._private.common import DeploymentID, ReplicaID

    replica = ReplicaID("x1", DeploymentID(name="model", app_name="digits"))
    assert replica.to_full_id_str().startswith("SERVE_REPLICA::digits#")


def test_the_control_store_answers_a_question_that_changes_nothing() -> None:
    from ray.core.generated import gcs_service_pb2

    from orchestrator.runtime.internals.gcs import CHECK_METHOD

    _, service, method = CHECK_METHOD.split("/")
    descriptor = gcs_service_pb2.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
    assert descriptor.full_name == service
    assert method in descriptor.methods_by_name
