"""Which runs of a storage can say how good predictions of a machine are?"""

from __future__ import annotations

import json

from orchestrator.errors import AxisError
from orchestrator.observe.runs import list_runs
from orchestrator.plan.dump import PLAN_FILE
from orchestrator.plan.load import parse_plan
from orchestrator.planner.calibration.refit import Pair, plain
from orchestrator.planner.cost.device import Device
from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.forecast.predict import NoPrediction, predict
from orchestrator.runtime.forecasting import COMPARISON_FILE, PREDICTION_FILE
from orchestrator.storage import Storage
from orchestrator.transformer import Transformer

LEAST_STEPS = 20
"""Fewer say more of the start of a run than of its steps."""


def past_pairs(base: Storage, device: Device) -> tuple[list[Pair], list[tuple[str, str]]]:
    """For each run below ``base`` that ``device`` carried out, what its primitives predict and what
    was measured; and those that cannot be used, with the reason."""
    pairs: list[Pair] = []
    left_out: list[tuple[str, str]] = []
    for view in list_runs(base):
        name = view.name
        run = base.child(name)
        try:
            found = _pair(name, run, device)
        except (AxisError, ValueError, KeyError, TypeError) as error:
            found = f"what is kept of it cannot be read: {error}"
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            left_out.append((name, found))
    return pairs, left_out


def _pair(name: str, run: Storage, device: Device) -> Pair | str:
    if not run.exists(COMPARISON_FILE):
        return "nothing was measured: it has not ended, or took too few steps"
    measured = json.loads(run.read_bytes(COMPARISON_FILE))
    kept = json.loads(run.read_bytes(PREDICTION_FILE)) if run.exists(PREDICTION_FILE) else {}
    if not kept.get("model"):
        return "its Job does not say how large its model is"
    if not kept.get("device") or kept["device"]["name"] != device.name:
        return f"it was not predicted for {device.name}"
    if measured["num_steps"] < LEAST_STEPS:
        return f"{measured['num_steps']} steps are too few"
    plan = parse_plan(run.read_bytes(PLAN_FILE).decode()).plan
    model = Transformer(**kept["model"])
    made = predict(plan, model, measured["workers"], plain(device))
    if isinstance(made, NoPrediction):
        return made.sentence
    return Pair(name, made.totals.parts, Parts.of(measured["measured"]))
