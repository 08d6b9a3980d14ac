"""How is a prediction told: as values for programs, as lines for people?"""

from __future__ import annotations

from typing import Any

from orchestrator.planner.cost.compare import PART_WORDS
from orchestrator.planner.forecast.changes import Change, Neighbours
from orchestrator.planner.forecast.lines import views
from orchestrator.planner.forecast.predict import Prediction


def prediction_view(found: Prediction) -> dict[str, Any]:
    """A prediction as plain values."""
    return {
        "workers": found.workers,
        "lines": views(found.lines),
        "parts": found.totals.parts.view(),
        "limited_by": found.limit.kind,
        "limit": found.limit.sentence,
        "fits": found.estimate.fits,
        "threads_per_core": found.crowding,
        "device": found.estimate.case.cluster.device.name,
        "defaults": dict(found.estimate.defaults),
    }


def answers_view(near: Neighbours, change: Change | None) -> dict[str, Any]:
    """Why not fewer, why not more, and what would help most."""
    return {
        "why_not_fewer": near.fewer,
        "why_not_more": near.more,
        "honest_workers": near.honest,
        "would_help": change.sentence if change is not None else "",
    }


def prediction_rows(found: Prediction, near: Neighbours, change: Change | None) -> list[str]:
    """Two to six lines for a person who asked for the whole plan."""
    cells = {line.name: line.cells()[1] for line in found.lines}
    step = f"{cells['step']} a step, {cells['throughput']}"
    step += f"; training {cells['training, in all']}"
    if "cost" in cells:
        step += f", cost {cells['cost']}"
    if not found.estimate.fits:
        step += f"; DOES NOT FIT: {cells['memory of a worker']} a worker"
    lines = [
        f"{step}, on {found.estimate.case.cluster.device.name}",
        f"binds: {found.limit.sentence}{_most_of_it(found)}",
        f"why not fewer: {near.fewer}",
        f"why not more: {near.more}",
    ]
    if change is not None:
        lines.append(f"would help most: {change.sentence}")
    return lines


def _most_of_it(found: Prediction) -> str:
    """What computing is for the most part, where computing is what binds."""
    if found.limit.kind != "compute-bound":
        return ""
    time = found.estimate.time
    names = ("products", "attention", "streaming", "host", "optimizer")
    most = max(names, key=lambda name: float(getattr(time, name)))
    return f", most of it {PART_WORDS[most]}"
