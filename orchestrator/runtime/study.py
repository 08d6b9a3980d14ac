"""How is a scaling study carried out? One real run after another, by the driver of every run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import InfeasibleError
from orchestrator.observe.display import Display
from orchestrator.plan.load import LoadedPlan
from orchestrator.planner.cost.device import Device
from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.forecast.predict import worker_price
from orchestrator.planner.study.points import Sized, Study
from orchestrator.runtime.forecasting import COMPARISON_FILE, PREDICTION_FILE, compare_run
from orchestrator.runtime.run import Ended, RunOptions, run_plan
from orchestrator.storage import Storage


@dataclass(frozen=True)
class Setting:
    """Where the runs take place, and what is predicted for them."""

    address: str | None
    num_cpus: int | None
    hardware: Device | None


def run_study(
    name: str,
    plans: Sequence[LoadedPlan],
    setting: Setting,
    about: Sequence[tuple[str, str]],
    display: Display,
) -> Study:
    """Run each plan, smallest first; what is there of an earlier study is moved aside.

    Raises ``InfeasibleError`` where one does not end well: a study with a hole says nothing.
    """
    sizes, missing = [], ""
    for loaded in plans:
        plan = loaded.plan
        display.line(f"study: {plan.training.workers.min} workers, as {plan.name}")
        options = RunOptions(
            fresh=True,
            address=setting.address,
            num_cpus=setting.num_cpus,
            hardware=setting.hardware,
        )
        ended = run_plan(loaded, options, display)
        if ended.end.exit_code != 0:
            raise InfeasibleError(
                f"the study ends here: {plan.name} ended with exit code {ended.end.exit_code}: "
                f"{ended.end.message}\n  works: axis logs {ended.run.name}"
            )
        size, why_not = _sized(loaded, ended, setting.hardware)
        sizes.append(size)
        missing = missing or why_not
    return Study(name, tuple(sizes), missing, tuple(about))


def _sized(loaded: LoadedPlan, ended: Ended, device: Device | None) -> tuple[Sized, str]:
    found = compare_run(ended.run)
    if found is None:
        raise InfeasibleError(f"{loaded.plan.name} took too few steps to be measured")
    kept = _read(ended.run, COMPARISON_FILE)
    model = _read(ended.run, PREDICTION_FILE).get("model")
    plan = loaded.plan
    price = worker_price(plan, found.workers, device)
    batch = plan.training.global_batch
    size = Sized(
        workers=found.workers,
        measured=Parts.of(kept["measured"]),
        predicted=None if kept["predicted"] is None else Parts.of(kept["predicted"]),
        samples=batch,
        tokens=None if model is None else batch * int(model["seq_len"]),
        hourly=None if price is None else price * found.workers,
    )
    return size, found.no_prediction


def _read(run: Storage, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(run.read_bytes(name))
    return values
