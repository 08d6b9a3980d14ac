"""What does ``axis plan`` predict? At every number of workers that the plan allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.cli.hardware import Hardware
from orchestrator.cli.job_model import describe
from orchestrator.plan.plan import Plan
from orchestrator.planner.cost.device import Device
from orchestrator.planner.forecast.changes import best_change, neighbours
from orchestrator.planner.forecast.predict import NoPrediction, Prediction, predict
from orchestrator.planner.forecast.telling import answers_view, prediction_rows, prediction_view
from orchestrator.transformer import Transformer

_MOST_SIZES = 4


def forecast_view(plan: Plan, counts: list[int], hardware: Hardware) -> dict[str, Any]:
    """Predictions at ``counts`` workers, with the lines for a person; or why there are none."""
    device = hardware.device
    if hardware.problem:
        return {"no_prediction": f"no prediction: {hardware.problem}", "sizes": []}
    if device is None:
        missing = predict(plan, None, counts[-1], None)
        assert isinstance(missing, NoPrediction)
        return {"no_prediction": missing.sentence, "sizes": []}
    described = describe(plan, Path.cwd())
    if described.why_not:
        works = f"; works: {described.works}" if described.works else ""
        return {"no_prediction": f"no prediction: {described.why_not}{works}", "sizes": []}
    made = [predict(plan, described.model, count, device) for count in counts]
    refused = [each.sentence for each in made if isinstance(each, NoPrediction)]
    sizes = [_size(plan, described.model, each, device) for each in made
             if isinstance(each, Prediction)]  # fmt: skip
    return {
        "no_prediction": refused[0] if refused and not sizes else "",
        "hardware": hardware.source,
        "sizes": sizes,
    }


def _size(
    plan: Plan, model: Transformer | None, found: Prediction, device: Device
) -> dict[str, Any]:
    assert model is not None
    near = neighbours(plan, model, found, device)
    change = best_change(plan, model, found, device, found.totals.parts)
    view = prediction_view(found) | answers_view(near, change)
    return view | {"text": prediction_rows(found, near, change)}


def shown_counts(counts: list[int]) -> list[int]:
    """Of many numbers of workers the smallest and the largest few."""
    if len(counts) <= _MOST_SIZES:
        return counts
    return [*counts[: _MOST_SIZES // 2], *counts[-_MOST_SIZES // 2 :]]
