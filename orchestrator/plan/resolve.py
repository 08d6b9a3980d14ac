"""What does a plan come to, once every default and every ``-1`` is worked out?

The view that ``axis plan --json`` prints. Says nothing of the nodes that are there, nor of cost.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.plan.dump import plan_hash, plan_values
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.microbatches import idle_share
from orchestrator.plan.model import Model
from orchestrator.plan.pipelining import num_stages
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import batch_shape, legal_workers, mesh_for


def resolved(plan: Plan) -> dict[str, Any]:
    """The plan's values and hash, and the mesh and batch at every legal number of workers."""
    return {
        "name": plan.name,
        "hash": plan_hash(plan),
        "plan": plan_values(plan),
        "sizes": [_size(plan, workers) for workers in legal_workers(plan)],
        "num_samples_trained": plan.training.steps * plan.training.global_batch,
    }


def _size(plan: Plan, workers: int) -> dict[str, Any]:
    mesh = mesh_for(plan, workers)
    shape = batch_shape(plan, workers)
    return {
        "workers": workers,
        "mesh": asdict(mesh),
        "batch_degree": mesh.batch_degree,
        **asdict(shape),
        "pipeline": _pipeline(plan.model, mesh, shape.accumulation),
    }


def _pipeline(model: Model, mesh: Mesh, micro_batches: int) -> dict[str, Any] | None:
    """How the micro-batches of a step go through the stages; ``None`` without a pipeline."""
    if mesh.pipeline == 1:
        return None
    return {
        "schedule": model.pipeline_schedule,
        "stages": num_stages(model.pipeline_schedule, mesh.pipeline, model.virtual_stages),
        "micro_batches": micro_batches,
        "idle_share": idle_share(model, mesh, micro_batches),
    }
