"""What does a plan come to, once every default and every ``-1`` is worked out?

The view that ``axis plan --json`` prints. Says nothing of the nodes that are there, nor of cost.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.plan.dump import plan_hash, plan_values
from orchestrator.plan.mesh import resolve_mesh
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import batch_shape, legal_workers
from orchestrator.plan.unsupported import unsupported


def resolved(plan: Plan) -> dict[str, Any]:
    """The plan's values and hash, and the mesh and batch at every legal number of workers."""
    return {
        "name": plan.name,
        "hash": plan_hash(plan),
        "plan": plan_values(plan),
        "sizes": [_size(plan, workers) for workers in legal_workers(plan)],
        "num_samples_trained": plan.training.steps * plan.training.global_batch,
        "unsupported": list(unsupported(plan)),
    }


def _size(plan: Plan, workers: int) -> dict[str, Any]:
    mesh = resolve_mesh(plan.model, workers)
    shape = batch_shape(plan, workers)
    return {
        "workers": workers,
        "mesh": asdict(mesh),
        "batch_degree": mesh.batch_degree,
        **asdict(shape),
    }
