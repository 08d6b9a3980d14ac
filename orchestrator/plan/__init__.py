"""The plan: what was asked for, checked and frozen.

The names below are loaded when they are first used, so that importing this package, or one
small module of it, stays light. It imports neither ray, torch nor pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.plan.checks import check_plan
    from orchestrator.plan.dump import dump_plan, json_schema, plan_hash, plan_values
    from orchestrator.plan.load import LoadedPlan, load_plan, parse_plan
    from orchestrator.plan.mesh import Mesh, batch_rank_of, coordinate_of, rank_of, resolve_mesh
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.refusal import Refusal
    from orchestrator.plan.resolve import resolved
    from orchestrator.plan.resume import ResumeVerdict, resume_changes
    from orchestrator.plan.sizes import (
        BatchShape,
        batch_shape,
        legal_workers,
        mesh_for,
        micro_batches,
    )
    from orchestrator.plan.static_job import check_targets

__all__ = [
    "BatchShape",
    "LoadedPlan",
    "Mesh",
    "Plan",
    "Refusal",
    "ResumeVerdict",
    "batch_rank_of",
    "batch_shape",
    "check_plan",
    "check_targets",
    "coordinate_of",
    "dump_plan",
    "json_schema",
    "legal_workers",
    "load_plan",
    "mesh_for",
    "micro_batches",
    "parse_plan",
    "plan_hash",
    "plan_values",
    "rank_of",
    "resolve_mesh",
    "resolved",
    "resume_changes",
]

_HOMES = {
    "checks": ("check_plan",),
    "dump": ("dump_plan", "json_schema", "plan_hash", "plan_values"),
    "load": ("LoadedPlan", "load_plan", "parse_plan"),
    "mesh": ("Mesh", "batch_rank_of", "coordinate_of", "rank_of", "resolve_mesh"),
    "plan": ("Plan",),
    "refusal": ("Refusal",),
    "resolve": ("resolved",),
    "resume": ("ResumeVerdict", "resume_changes"),
    "sizes": ("BatchShape", "batch_shape", "legal_workers", "mesh_for", "micro_batches"),
    "static_job": ("check_targets",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
