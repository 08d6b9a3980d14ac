"""A prediction is kept beside the run, put beside its measurement, and never in its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.gpt import GPT
from orchestrator import Job
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.plan.dump import PLAN_FILE, dump_plan
from orchestrator.planner.calibration.refit import refit
from orchestrator.runtime.forecasting import (
    COMPARISON_FILE,
    PREDICTION_FILE,
    compare_run,
    comparison_rows,
    store_prediction,
)
from orchestrator.storage import Storage
from tests.observe.test_stepping import records
from tests.planner.forecast.plans import device_of_two_cores, plan_of

pytestmark = pytest.mark.unit

DEVICE = device_of_two_cores()


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path)).child("forecast")


def begun(run: Storage, job: Job | None = None, device: Any = DEVICE) -> str:
    plan = plan_of()
    run.write_atomic(PLAN_FILE, dump_plan(plan).encode())
    return store_prediction(run, plan, job or GPT(), device)


def measured(run: Storage, shares: bool = True) -> None:
    with MetricsLog(run, 1) as log:
        for each in records(1, 1, 40):
            log.append(each)
        if shares:
            log.append(
                {
                    "kind": "shares",
                    "num_steps": 38,
                    "step_seconds": 3.8,
                    "exchange_seconds": 0.19,
                    "waiting_seconds": 0.038,
                    "data_seconds": 0.38,
                }
            )


def test_predicted_before_measured_after(run: Storage) -> None:
    assert begun(run) == ""
    kept = json.loads(run.read_bytes(PREDICTION_FILE))
    assert [size["workers"] for size in kept["sizes"]] == [2]
    measured(run)
    found = compare_run(run)
    assert found is not None
    lines = {line.name: line for line in found.lines}
    assert lines["step"].predicted == kept["sizes"][0]["lines"][0]["predicted"]
    assert lines["step"].measured == pytest.approx(0.1)
    assert lines["communication, exposed"].measured == pytest.approx(0.005)
    assert lines["training, in all"].error is not None
    assert found.limited.startswith("compute-bound: ")
    assert found.no_prediction == ""
    view = json.loads(run.read_bytes(COMPARISON_FILE))
    assert view["lines"][0]["error"] == pytest.approx(lines["step"].error)
    assert len(comparison_rows(found)[0]) == 4


def test_what_was_written_before_counts_not_what_would_be_said_now(run: Storage) -> None:
    begun(run)
    kept = json.loads(run.read_bytes(PREDICTION_FILE))
    kept["sizes"][0]["parts"]["compute"] = 77.0
    run.write_atomic(PREDICTION_FILE, json.dumps(kept).encode())
    measured(run)
    found = compare_run(run)
    assert found is not None
    assert next(line for line in found.lines if line.name == "computing").predicted == 77.0


def test_without_a_machine_the_run_is_measured_all_the_same(run: Storage) -> None:
    assert "axis calibrate" in begun(run, device=None)
    measured(run)
    found = compare_run(run)
    assert found is not None
    assert "axis calibrate" in found.no_prediction
    assert all(line.predicted is None for line in found.lines)
    assert found.limited.startswith("compute-bound")
    assert found.would_help == ""


class Silent(Job):
    """Says nothing of its model."""


class Broken(Job):
    """Raises when it is asked."""

    def transformer(self) -> Any:
        raise RuntimeError("no sizes today")


class Odd(Job):
    """Says something else."""

    def transformer(self) -> Any:
        return {"layers": 4}


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Silent(), "does not say how large its model is"),
        (Broken(), "RuntimeError: no sizes today"),
        (Odd(), "returned dict"),
    ],
)
def test_no_job_makes_a_prediction_fail_a_run(run: Storage, job: Job, words: str) -> None:
    assert words in begun(run, job)


def test_storage_that_refuses_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    run = Storage.open(str(tmp_path)).child("file")
    assert "no prediction: " in store_prediction(run, plan_of(), GPT(), DEVICE)


def test_no_steps_no_comparison(run: Storage) -> None:
    begun(run)
    assert compare_run(run) is None


def test_past_runs_correct_a_machine(tmp_path: Path, run: Storage) -> None:
    from orchestrator.runtime.past_runs import past_pairs

    fast = DEVICE.joined(2)
    begun(run, device=fast)
    measured(run)
    compare_run(run)
    run.child("journal").write_atomic("attempt-0001.jsonl", b"")
    pairs, left_out = past_pairs(Storage.open(str(tmp_path)), fast)
    assert [pair.name for pair in pairs] == ["forecast"]
    assert left_out == []
    found = refit(pairs).refit
    own = pairs[0].measured.compute / pairs[0].predicted.compute
    assert found.computation == pytest.approx(own, rel=1e-3)
    other = DEVICE.model_copy(update={"name": "another"})
    pairs, left_out = past_pairs(Storage.open(str(tmp_path)), other)
    assert pairs == []
    assert "not predicted for another" in left_out[0][1]
