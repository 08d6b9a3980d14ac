"""What was expected of a run, kept beside it, and what came of it?

A prediction informs and never decides: whatever goes wrong with it is said, and the run goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.job import Job
from orchestrator.job_import import concealer_of
from orchestrator.observe.metrics_log import read_metrics
from orchestrator.observe.stepping import Stepping, stepping
from orchestrator.plan.dump import PLAN_FILE
from orchestrator.plan.load import parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.hardware_files import device_of
from orchestrator.planner.forecast.changes import best_change
from orchestrator.planner.forecast.lines import Line, Totals, table, views
from orchestrator.planner.forecast.measured import measured_parts, measured_totals
from orchestrator.planner.forecast.parts import Parts, limit
from orchestrator.planner.forecast.predict import NoPrediction, Prediction, predict, worker_price
from orchestrator.planner.forecast.telling import prediction_view
from orchestrator.storage import Storage
from orchestrator.transformer import Transformer

PREDICTION_FILE = "prediction.json"
COMPARISON_FILE = "comparison.json"

_MOST_SIZES = 8


@dataclass(frozen=True)
class Comparison:
    """The table of a run that has taken steps, what limited it, and what would help most."""

    workers: int
    lines: tuple[Line, ...]
    limited: str
    would_help: str
    no_prediction: str


def describe_model(job: Job) -> Transformer | None:
    """What the Job says of its model. Raises ``TypeError`` for anything but a ``Transformer``."""
    found = job.transformer()
    if found is None or isinstance(found, Transformer):
        return found
    raise TypeError(
        f"transformer() returned {type(found).__name__}, not an orchestrator.Transformer"
    )


def store_prediction(run: Storage, plan: Plan, job: Job, device: Device | None) -> str:
    """Predict and keep it in the run's folder; a sentence for the person, empty where all is well.

    Never raises: a run does not depend on what is expected of it.
    """
    try:
        model = describe_model(job)
        view = _view(plan, model, device)
        run.write_atomic(PREDICTION_FILE, json.dumps(view, indent=1).encode())
        return str(view["no_prediction"])
    except Exception as error:
        return concealer_of(plan)(f"no prediction: {type(error).__name__}: {error}")


def _view(plan: Plan, model: Transformer | None, device: Device | None) -> dict[str, Any]:
    made = [predict(plan, model, count, device) for count in legal_workers(plan)[-_MOST_SIZES:]]
    refused = [each.sentence for each in made if isinstance(each, NoPrediction)]
    sizes = [each for each in made if isinstance(each, Prediction)]
    return {
        "version": 1,
        "made_at_seconds": time.time(),
        "model": None if model is None else asdict(model),
        "device": None if device is None else device.model_dump(mode="json"),
        "no_prediction": "" if sizes else (refused[0] if refused else "no prediction"),
        "sizes": [{**prediction_view(each), "spec": dict(each.spec)} for each in sizes],
    }


def compare_run(run: Storage) -> Comparison | None:
    """Put what was measured beside what was predicted, and keep it; ``None`` before any steps.

    Raises ``AxisError`` where storage refuses, ``ValueError`` or ``KeyError`` where what is kept
    there is not what was written.
    """
    found = stepping(read_metrics(run).records)
    if found is None:
        return None
    plan = parse_plan(run.read_bytes(PLAN_FILE).decode()).plan
    kept = json.loads(run.read_bytes(PREDICTION_FILE)) if run.exists(PREDICTION_FILE) else {}
    comparison, view = _compared(plan, kept, found)
    run.write_atomic(COMPARISON_FILE, json.dumps(view, indent=1).encode())
    return comparison


def _compared(
    plan: Plan, kept: Mapping[str, Any], found: Stepping
) -> tuple[Comparison, dict[str, Any]]:
    device = device_of(kept["device"], PREDICTION_FILE) if kept.get("device") else None
    model = Transformer(**kept["model"]) if kept.get("model") else None
    made = predict(plan, model, found.workers, device)
    prediction = made if isinstance(made, Prediction) else None
    parts = _parts(plan, found, prediction)
    totals = _measured(plan, model, found, parts, device)
    lines = table(_for_steps(prediction, _stored(kept, found.workers), found.num_steps), totals)
    why = limit(parts)
    helps = _would_help(plan, model, prediction, device, parts)
    missing = made.sentence if isinstance(made, NoPrediction) else ""
    view = {
        "version": 1,
        "attempt": found.attempt,
        "workers": found.workers,
        "num_steps": found.num_steps,
        "lines": views(lines),
        "measured": parts.view(),
        "predicted": None if prediction is None else prediction.totals.parts.view(),
        "limited_by": why.kind,
        "limited": why.sentence,
        "would_help": helps,
        "no_prediction": missing,
        "spec": None if prediction is None else dict(prediction.spec),
    }
    return Comparison(found.workers, lines, why.sentence, helps, missing), view


def _parts(plan: Plan, found: Stepping, prediction: Prediction | None) -> Parts:
    split = prediction.totals.parts.by_dimension if prediction is not None else {}
    return measured_parts(
        step_seconds=found.step_seconds,
        data_seconds=found.data_seconds,
        pause_seconds=found.pause_seconds,
        exchange_share=found.exchange_share,
        waiting_share=found.waiting_share,
        by_dimension=split,
        pipelined=plan.model.pipeline > 1,
    )


def _measured(
    plan: Plan,
    model: Transformer | None,
    found: Stepping,
    parts: Parts,
    device: Device | None,
) -> Totals:
    tokens = None if model is None else plan.training.global_batch * model.seq_len
    price = worker_price(plan, found.workers, device)
    hourly = None if price is None else price * found.workers
    return measured_totals(parts, tokens, found.training_seconds, hourly)


def _stored(kept: Mapping[str, Any], workers: int) -> Parts | None:
    """What was written down of this number of workers before the run began."""
    sizes = [size for size in kept.get("sizes", ()) if size["workers"] == workers]
    return Parts.of(sizes[0]["parts"]) if sizes else None


def _for_steps(
    prediction: Prediction | None, stored: Parts | None, num_steps: int
) -> Totals | None:
    """What was predicted, for so many steps as were measured."""
    if prediction is None or stored is None:
        return None
    totals = replace(prediction.totals, parts=stored)
    seconds = num_steps * stored.whole
    share = seconds / totals.training_seconds if totals.training_seconds else 1.0
    cost = None if totals.cost is None else totals.cost * share
    return Totals(totals.parts, totals.tokens_per_second, seconds, totals.memory_bytes, cost)


def _would_help(
    plan: Plan,
    model: Transformer | None,
    prediction: Prediction | None,
    device: Device | None,
    parts: Parts,
) -> str:
    if model is None or prediction is None or device is None:
        return ""
    change = best_change(plan, model, prediction, device, parts)
    return (
        "nothing that the planner knows of, by 2 % or more" if change is None else change.sentence
    )


def comparison_rows(comparison: Comparison) -> Sequence[tuple[str, str, str, str]]:
    """The table for people."""
    return [line.cells() for line in comparison.lines]
