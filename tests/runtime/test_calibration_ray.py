"""A machine is really measured, a run predicted with it, and the file corrected by that run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.planner.cost.hardware_files import parse_device
from tests.axis_command import Axis

SHORT = ("training.steps=30", "inference=null", "coordination.checkpoint.every=30")


@pytest.mark.unit
def test_what_one_worker_times_is_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from orchestrator.runtime.calibration import kernels

    monkeypatch.setattr(kernels, "_BUDGET_SECONDS", 0.005)
    torch.set_num_threads(1)
    found = kernels.measure_worker(torch.device("cpu"))
    assert {each.precision for each in found.products} == {"fp32", "bf16"}
    assert all(1e8 < each.rate < 1e14 for each in found.products)
    assert all(each.backward_seconds >= each.forward_seconds > 0 for each in found.attention)
    assert all(1e7 < each.num_bytes / each.seconds < 1e13 for each in found.kernels)
    assert 1e8 < found.memory_bytes_per_second < 1e13
    assert 1e-8 < found.operation_seconds < 1e-2


@pytest.mark.unit
def test_storage_is_timed_and_left_as_it_was(tmp_path: Path) -> None:
    from orchestrator.runtime.calibration.disk import measure_disk

    (tmp_path / "mine").write_text("here before")
    found = measure_disk(str(tmp_path))
    assert found.write_bytes_per_second > 1e5
    assert found.read_bytes_per_second > 1e5
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_measured_predicted_run_and_corrected(axis: Axis, tmp_path: Path) -> None:
    hardware, storage = str(tmp_path / "measured.yaml"), f"storage={axis.storage}"
    measured = axis("calibrate", "-o", hardware, "--storage", str(axis.storage))
    assert measured.code == 0, measured
    device = parse_device(Path(hardware).read_text(), hardware)
    assert device.kind == "cpu"
    assert set(device.collectives) == {
        "broadcast",
        "all_reduce",
        "all_gather",
        "reduce_scatter",
        "all_to_all",
    }
    assert device.disk is not None
    assert device.ray is not None
    assert "not measured" in measured.out  # one node: nothing between nodes
    assert [path.name for path in axis.storage.iterdir()] == []

    ran = axis("run", "configs/gpt-stdlib.yaml", storage, *SHORT, "--hardware", hardware)
    assert ran.code == 0, ran
    assert "predicted " in ran.out
    assert "-bound: " in ran.out
    folder = axis.storage / "gpt-stdlib"
    assert json.loads((folder / "prediction.json").read_text())["sizes"][0]["workers"] == 2
    kept = json.loads((folder / "comparison.json").read_text())
    lines = {line["name"]: line for line in kept["lines"]}
    # A machine with much else to do is no failure; an order of magnitude is.
    assert 0.1 < lines["step"]["predicted"] / lines["step"]["measured"] < 3.0
    assert lines["communication, exposed"]["measured"] > 0
    assert "## Predicted and measured" in (folder / "report.md").read_text()

    corrected = axis("calibrate", "--from-runs", "-o", hardware, "--storage", str(axis.storage))
    assert corrected.code == 0, corrected
    assert "before" in corrected.out
    assert "mean error" in corrected.out
    factors = yaml.safe_load(Path(hardware).read_text())["refit"]
    own = kept["measured"]["compute"] / kept["predicted"]["compute"]
    assert factors["computation"] == pytest.approx(own, rel=1e-3)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_is_real_runs(axis: Axis, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    told = axis(
        "study",
        "configs/digits.yaml",
        f"storage={axis.storage}",
        "--workers=2,1",
        "--steps=12",
        "-o",
        str(folder),
    )
    assert told.code == 0, told
    view = json.loads((folder / "study.json").read_text())
    assert [size["workers"] for size in view["sizes"]] == [1, 2]
    assert view["unit"] == "samples"
    assert "no prediction: " in view["no_prediction"]
    assert (folder / "study.html").read_text().startswith("<!doctype html>")
    assert (axis.storage / "digits-study-2" / "journal").is_dir()
    refused = axis("study", "configs/digits.yaml", "--workers=7", "-o", str(folder))
    assert refused.code == 2
    assert "--workers 4 or 8" in refused.err
