"""The digits Job: its samples, that it learns, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from jobs.digits import Digits
from orchestrator.feed.build import build_shard_from_rows
from orchestrator.feed.corpus import build_manifest
from orchestrator.feed.write import commit_store
from orchestrator.job_import import load_job
from orchestrator.parallel.checkpoint import load_model
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.loop import train
from orchestrator.parallel.setup import TrainSetup
from orchestrator.plan.load import load_plan
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

PLAN = Path(__file__).parents[2] / "configs" / "digits.yaml"


def test_a_sample_is_an_image_and_its_label() -> None:
    (sample,) = Digits().samples({"pixels": list(range(17)) + [0] * 47, "label": 3})
    assert sample["label"] == 3
    pixels = np.asarray(sample["pixels"])
    assert pixels.dtype == np.float32
    assert pixels.shape == (64,)
    assert pixels[16] == 1.0


def test_the_shipped_plan_reaches_its_gate_and_answers_its_example(tmp_path: Path) -> None:
    """As `axis run` trains it, but on one worker."""
    plan = load_plan(PLAN, ["training.workers=1", "training.threads=2"]).plan
    job, store, run = load_job(plan), Storage.open(str(tmp_path / "s")), Storage.open(str(tmp_path))
    data = load_digits()
    rows = [{"pixels": p, "label": int(n)} for p, n in zip(data.data, data.target, strict=True)]
    result = build_shard_from_rows(rows, job, store)
    names = {"key": "", "plan_hash": "", "code_hash": "", "source": {}}
    commit_store(store, build_manifest([result], num_files=1, **names))
    setup = TrainSetup(plan, job, store, run, 1)
    trained = train(setup, LocalChannel(run, 1, 0))
    assert plan.inference is not None
    gate = plan.inference.promote.when
    assert gate is not None
    assert gate.above == 0.95
    assert trained.metrics["val_accuracy"] > gate.above
    model, _ = load_model(job, run.child(trained.checkpoint or ""))
    with torch.inference_mode():
        (answer,) = job.answer(model, [plan.inference.example])
    assert answer["digit"] == 0
    assert 0.9 < answer["confidence"] <= 1


@pytest.mark.parametrize(
    "request_body",
    [
        None,
        {},
        {"pixels": "x" * 64},
        {"pixels": [0] * 63},
        {"pixels": [0] * 63 + [17]},
        {"pixels": [0] * 63 + [True]},
        {"pixels": [0] * 63 + ["0"]},
        {"pixels": [0] * 63 + [float("nan")]},
    ],
)
def test_a_bad_request_is_refused(request_body: Any) -> None:
    with pytest.raises(ValueError, match="0 to 16"):
        Digits().answer(Digits().model(), [request_body])
