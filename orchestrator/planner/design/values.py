"""The design for a program: the object that ``axis design --json`` prints.

Names carry their units; what has no end (a failure that never comes) is ``null``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from orchestrator.planner.design.back_edge import Taxes
from orchestrator.planner.design.defaults import Default
from orchestrator.planner.design.design import Design, Round
from orchestrator.planner.design.sizing import Pool, Sizing
from orchestrator.planner.design.verdict import verdict


def design_values(found: Design, defaults: Sequence[Default]) -> dict[str, Any]:
    """Verdict, every round with all six stages, machines, and the defaults that were used."""
    binding = found.final.binding
    values = {
        "kind": "design",
        "name": found.workload.name,
        "title": found.workload.title,
        "verdict": verdict(found),
        "feasible": found.feasible,
        "unmet": list(found.unmet),
        "one_machine": found.one_machine,
        "ceiling": binding.ceiling if binding else "none",
        "distribute": [each.axis for each in found.final.distributed],
        "topology": found.final.topology.choice,
        "mode": found.final.mode.choice,
        "metric": found.final.metric.choice,
        "num_machines": found.final.sizing.num_machines,
        "cost_per_month": found.cost_per_month,
        "rounds": [_round(walk) for walk in found.rounds],
        "defaults": [asdict(each) for each in defaults],
    }
    finite: dict[str, Any] = _finite(values)
    return finite


def _round(walk: Round) -> dict[str, Any]:
    return {
        "choice": asdict(walk.choice),
        "demands": [{**asdict(each), "ratio": each.ratio} for each in walk.demands],
        "pressures": {
            each.axis: {key: value for key, value in asdict(each).items() if key != "axis"}
            for each in walk.pressures
        },
        "topology": asdict(walk.topology),
        "mode": asdict(walk.mode),
        "metric": asdict(walk.metric),
        "sizing": _sizing(walk.sizing),
        "taxes": _taxes(walk.taxes),
        "back_edge": (
            {"ceiling": walk.turn.ceiling, "remedy": walk.turn.remedy} if walk.turn else None
        ),
        "unmet": list(walk.unmet),
    }


def _sizing(sizing: Sizing) -> dict[str, Any]:
    return {
        "data_machines": sizing.data_machines,
        "index_machines": sizing.index_machines,
        "agents": sizing.agents,
        "training": _pool(sizing.training),
        "serving": _pool(sizing.serving),
        "num_machines": sizing.num_machines,
    }


def _pool(pool: Pool | None) -> dict[str, int] | None:
    if pool is None:
        return None
    return {**asdict(pool), "num_devices": pool.num_devices, "num_machines": pool.num_machines}


def _taxes(taxes: Taxes) -> dict[str, Any]:
    """Every tax with what is derived from it."""
    values = asdict(taxes)
    if taxes.training is not None:
        step = taxes.training.step
        values["training"]["finish_seconds"] = taxes.training.finish_seconds
        values["training"]["step"] |= {
            "pool": _pool(step.pool),
            "communication_seconds": step.communication_seconds,
            "seconds": step.seconds,
            "tax": step.exposed_seconds / step.seconds,
        }
    if taxes.serving is not None:
        values["serving"]["left_seconds"] = taxes.serving.left_seconds
    if taxes.data is not None:
        values["data"]["finish_seconds"] = taxes.data.finish_seconds
    return values


def _finite(value: Any) -> Any:
    """``value`` with lists for tuples and ``None`` for what JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
