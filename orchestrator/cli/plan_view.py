"""What does a plan come to, as values? The object that ``axis plan --json`` prints.

Everything is computed from the plan alone; nothing is looked up on a cluster. How it is told to
a person is in ``plan_text``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.coordinator.gang import Gang, gang
from orchestrator.coordinator.preflight import format_bundle
from orchestrator.plan.data import PythonSource
from orchestrator.plan.mesh import Mesh, batch_rank_of, coordinate_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.resolve import resolved
from orchestrator.plan.sizes import mesh_for

_MOST_RANKS = 64
"""Larger meshes are given by their degrees alone."""


def plan_view(plan: Plan, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The plan's values and hash; mesh, ranks, batch and bundles at every legal number of
    workers; checkpoints; what is written where; ``warnings`` and those that are found here."""
    view = resolved(plan)
    sizes = [{**size, **_placed(plan, size["workers"])} for size in view["sizes"]]
    return {
        "kind": "plan",
        **view,
        "sizes": sizes,
        "checkpoints": _checkpoints(plan),
        "writes": _writes(plan),
        "warnings": [*warnings, *_missing_path(plan), *_crowded_port(plan)],
    }


def _placed(plan: Plan, workers: int) -> dict[str, Any]:
    wanted = gang(plan, workers)
    mesh = mesh_for(plan, workers)
    return {
        "ranks": list(_ranks(mesh)) if mesh.size <= _MOST_RANKS else None,
        "bundles": _counted(wanted),
        "total": wanted.total,
        "strategy": wanted.strategy,
    }


def _ranks(mesh: Mesh) -> Iterator[dict[str, Any]]:
    for rank in range(mesh.size):
        yield {
            "rank": rank,
            "batch_rank": batch_rank_of(mesh, rank),
            "coordinate": coordinate_of(mesh, rank),
        }


def _counted(wanted: Gang) -> list[dict[str, Any]]:
    """Equal bundles together: how many, what each holds, and the same in words."""
    counts = Counter(tuple(bundle.items()) for bundle in wanted.bundles)
    return [
        {
            "count": count,
            "resources": dict(items),
            "text": f"{count} × {format_bundle(dict(items))}",
        }
        for items, count in counts.items()
    ]


def _checkpoints(plan: Plan) -> dict[str, Any]:
    """``interval_steps`` and ``count`` are ``None`` where the run finds them out (``auto``)."""
    steps, settings = plan.training.steps, plan.coordination.checkpoint
    interval = None if settings.every == "auto" else settings.every
    return {
        "every": settings.every,
        "interval_steps": interval,
        "count": None if interval is None else -(-steps // interval),
        "asynchronous": settings.asynchronous,
        "mtbf_seconds": settings.mtbf,
        "keep": settings.keep,
        "keep_best": settings.keep_best,
        "evaluated_samples": plan.training.evaluate.samples if plan.data.holdout else 0,
    }


def _writes(plan: Plan) -> dict[str, str]:
    storage = plan.storage.rstrip("/")
    run = f"{storage}/{plan.name}"
    return {
        f"{run}/plan.yaml": "this plan, as resolved above",
        f"{run}/journal/": "every event, by attempt",
        f"{run}/metrics/": "every step's figures, by attempt",
        f"{run}/checkpoints/": "committed checkpoints",
        f"{run}/logs/": "what driver and workers log, by attempt",
        f"{run}/prediction.json": "what is expected of it, kept before it starts",
        f"{run}/comparison.json": "the same beside what was measured",
        f"{run}/report.md": "the report of the last attempt",
        f"{storage}/_stores/": "sample stores, shared by the runs of this storage",
    }


def _missing_path(plan: Plan) -> list[str]:
    source = plan.data.source
    if isinstance(source, PythonSource) or ":" in source.path:
        return []
    if Path(source.path).expanduser().exists():
        return []
    return [f"data.source.path: there is no {source.path} on this machine; axis run would refuse"]


def _crowded_port(plan: Plan) -> list[str]:
    """A port that only root may listen on is a slip more often than a wish."""
    inference = plan.inference
    if inference is None or inference.port >= 1024:
        return []
    return [f"inference.port: {inference.port} is below 1024, which most users may not listen on"]
