"""What does a plan ask of the cost model? From a plan and the sizes of its model to one case.

Pure; what is said here is what ``axis estimate`` would be asked, so that a person can ask it, too.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import batch_shape, mesh_for
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.estimate import parse_specs
from orchestrator.planner.cost.resolve import Resolved, resolve
from orchestrator.transformer import Transformer

HEAD_CORES = 0.11
"""Cores that a dozen processes of Ray's, the coordinator and the driver take on the head's node
while steps go on, beyond what Ray takes while a machine is calibrated (a 2-core server, where
workers fill both; docs/planner)."""

WORKER_CORES = 0.03
"""What each worker takes beside the thread that computes: Ray's own, the loader's, the watchdog's.
"""

_SCHEDULES = {"gpipe": "gpipe", "1f1b": "1f1b", "interleaved-1f1b": "interleaved"}


def spec_values(
    plan: Plan, model: Transformer, workers: int, device: Device | str
) -> dict[str, Any]:
    """The specification of a step of ``plan`` on ``workers``, as ``axis estimate`` reads it.

    Raises ``Refusal`` (a ``ValueError``) for a number of workers that the plan cannot have.
    """
    sizes = {name: value for name, value in asdict(model).items() if value is not None}
    seq_len = sizes.pop("seq_len")
    return {
        "name": f"{plan.name} on {workers} workers" if workers > 1 else f"{plan.name} on 1 worker",
        "model": sizes,
        "training": _training(plan, workers, seq_len),
        "mesh": _mesh(plan, workers),
        "hardware": {"device": device if isinstance(device, str) else device.model_dump()},
    }


def _training(plan: Plan, workers: int, seq_len: int) -> dict[str, Any]:
    mesh, training = mesh_for(plan, workers), plan.training
    shape = batch_shape(plan, workers)
    values: dict[str, Any] = {
        "seq_len": seq_len,
        "global_batch": training.global_batch,
        "micro_batch": shape.micro_batch,
        "precision": training.precision,
        "recompute": plan.model.activation_checkpoint,
        "attention": "flash",
        "compiled": False,
        "optimizer": training.optimizer.kind,
        "sequence_parallel": mesh.tensor > 1,
        "sharding": "full" if mesh.shard * mesh.context > 1 else "none",
    }
    if mesh.pipeline > 1:
        values["schedule"] = _SCHEDULES[plan.model.pipeline_schedule]
        if values["schedule"] == "interleaved":
            values["virtual_stages"] = plan.model.virtual_stages
    return values


def _mesh(plan: Plan, workers: int) -> dict[str, int]:
    mesh = mesh_for(plan, workers)
    return {
        "dp": mesh.replicate,
        "fsdp": mesh.shard,
        "tp": mesh.tensor,
        "pp": mesh.pipeline,
        "cp": mesh.context,
        "ep": mesh.expert,
    }


def resolve_plan(plan: Plan, model: Transformer, workers: int, device: Device) -> Resolved:
    """The case of a step of ``plan``. Raises ``PlanError`` for what the cost model cannot take."""
    values = spec_values(plan, model, workers, as_shared(plan, workers, device))
    if device.kind == "cpu":
        # What carries a transfer are the cores that would compute behind it.
        values["training"]["overlap"] = False
    return resolve(parse_specs(values, "plan")[0], "plan")


def as_shared(plan: Plan, workers: int, device: Device) -> Device:
    """The device as one of ``workers`` has it: so many cores as it has threads, or a share of a
    core where these are more than the cores that are left to them."""
    if device.kind != "cpu":
        gpus = plan.training.resources.gpu
        return device.sharing(1.0 / gpus) if 0 < gpus < 1 else device
    threads = _threads_on_a_node(plan, workers, device)
    taken = HEAD_CORES + WORKER_CORES * threads / plan.training.threads
    return device.joined(plan.training.threads).sharing(threads / (device.per_node - taken))


def nodes_needed(plan: Plan, workers: int, device: Device) -> int:
    """Nodes that hold ``workers``, which fill one after another by what they reserve."""
    wanted = plan.training.resources
    each = wanted.cpu if device.kind == "cpu" else wanted.gpu
    return max(1, math.ceil(workers * each / device.per_node - 1e-9))


def crowding(plan: Plan, workers: int, device: Device) -> float:
    """Threads for each core of a node, 1 at the least."""
    return max(1.0, _threads_on_a_node(plan, workers, device) / device.per_node)


def _threads_on_a_node(plan: Plan, workers: int, device: Device) -> int:
    """On the fullest node, whose workers all others wait for."""
    return math.ceil(workers / nodes_needed(plan, workers, device)) * plan.training.threads
