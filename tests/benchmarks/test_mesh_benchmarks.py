"""Meshes are measured elsewhere; here both sides must be told the same, and count right."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch

from benchmarks.by_hand.mesh_loop import Settings, resident_bytes
from benchmarks.by_hand.mesh_pipeline import Stage
from benchmarks.mesh_memory import storage_bytes
from benchmarks.mesh_runs import (
    LARGE_MODEL,
    MODEL,
    SEQ_LEN,
    WARM_UP_STEPS,
    Bench,
    Case,
    Trained,
    build_text_store,
)
from benchmarks.meshes import CASES, GLOBAL_BATCH
from benchmarks.runs import write_plan
from benchmarks.training import STRETCH
from benchmarks.workplace import Workplace
from jobs.gpt import GPT
from orchestrator.feed.store import SampleStore
from orchestrator.plan.load import load_plan
from orchestrator.plan.mesh import resolve_mesh
from orchestrator.plan.sizes import batch_shape
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["mesh_axis", "mesh_memory", "by_hand.mesh_loop"])
def test_every_program_has_a_main(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
def test_the_plan_of_a_case_is_the_mesh_that_is_made_by_hand(case: Case) -> None:
    with Workplace() as place:
        bench = Bench(place, GLOBAL_BATCH, steps=30)
        plan = load_plan(write_plan(place, bench.plan(case, case.slug, MODEL, 30))).plan
    mesh = resolve_mesh(plan.model, case.size)
    assert mesh.size == case.size == math.prod(case.degrees.values())
    assert {name: getattr(mesh, name) for name in case.degrees} == dict(case.degrees)
    shape = batch_shape(plan, case.size)
    assert shape.micro_batch == case.micro_batch(GLOBAL_BATCH)
    assert shape.accumulation == (4 if "pipeline" in case.degrees else 1)


def test_the_model_of_memory_is_large_enough() -> None:
    with torch.device("meta"):
        model = GPT(**LARGE_MODEL).model()
    assert sum(parameter.numel() for parameter in model.parameters()) > 20_000_000


def test_stages_by_hand_compute_what_the_whole_model_does() -> None:
    torch.manual_seed(0)
    sizes = {"layers": 4, "hidden": 32, "heads": 2, "kv_heads": 1, "ffn": 32}
    model = GPT(**sizes, seq_len=8, tie=False).model()
    tokens = torch.randint(0, 250, (3, 8))
    first, second = (Stage(model, index, 2) for index in range(2))
    assert len(first.layers) == len(second.layers) == 2
    torch.testing.assert_close(second(first(tokens)), model(tokens))
    held = {id(p) for stage in (first, second) for p in stage.parameters()}
    assert held == {id(p) for p in model.parameters()}


def test_a_run_is_read_after_the_warm_up() -> None:
    before = [100.0 * step for step in range(WARM_UP_STEPS)]
    after = [before[-1] + 0.5 * step for step in range(1, 2 * STRETCH + 1)]
    ranks = [
        {"step_times": before + after, "cpu_seconds": before + after, "loss": loss,
         "peak_resident_bytes": size}
        for loss, size in ((math.nan, 7), (2.5, 5))
    ]  # fmt: skip
    run = Trained(ranks)
    assert math.isclose(run.stretch_seconds, 0.5 * STRETCH)
    assert math.isclose(run.stretch_cpu_seconds, 2 * 0.5 * STRETCH)
    assert (run.loss, run.peak_resident_bytes) == (2.5, 7)


def test_memory_that_tensors_share_counts_once() -> None:
    bucket = torch.zeros(100)
    assert storage_bytes([bucket[:10], bucket[10:], torch.zeros(5)]) == 420


def test_the_resident_set_is_read() -> None:
    assert 10 * 2**20 < resident_bytes("VmRSS") <= resident_bytes("VmHWM") < 2**40


def test_settings_travel_as_json(tmp_path: Path) -> None:
    settings = Settings("s", "o", MODEL, {"shard": 4}, 16, 4, 30, 1e-3, 10)
    assert Settings.read(settings.write(tmp_path / "settings")) == settings


def test_the_store_is_text(tmp_path: Path) -> None:
    build_text_store(tmp_path)
    store = SampleStore.open(Storage.open(str(tmp_path)))
    assert store.num_samples == 4096
    assert [column.shape for column in store.columns] == [(SEQ_LEN + 1,)]
