"""The benchmarks are measured elsewhere; here they must import, compare and render."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.by_hand.shards import BatchShardDataset, ShardDataset
from benchmarks.comparison import Comparison, Outcome, figure, render, table
from benchmarks.runs import load_config, training_plan, write_plan
from benchmarks.serving import p99
from benchmarks.training import in_turn, stretch_seconds
from benchmarks.workplace import MeasurementFailed, Workplace
from orchestrator.feed.write import write_shard
from orchestrator.plan.load import load_plan
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

FASTER = Comparison("steps", "tokens/s", [110.0, 90.0, 100.0], [100.0, 100.0, 50.0], "x", 0.98)
SLOWER = Comparison("p99", "ms", [12.0, 12.0], [10.0, 10.0], "y", 1.1, more_is_better=False)


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_can_be_measured(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


@pytest.mark.parametrize(
    "name",
    [
        "cluster",
        "http_load",
        "sharding_host",
        "checkpoints_host",
        "by_hand.torchrun_ddp",
        "raylets",
    ],
)
def test_every_program_has_a_main(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_figures_are_medians_and_the_goal_is_held_against_their_ratio() -> None:
    assert FASTER.ratio == 1.0
    assert FASTER.met is True
    assert FASTER.pair_ratios == [1.1, 0.9, 2.0]
    assert math.isclose(SLOWER.ratio, 1.2)
    assert SLOWER.met is False
    assert Comparison("a", "s", [1.0], [2.0], "z").met is None


def test_repetitions_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = Comparison("a", "s", [1.0, 2.0], [1.0], "z").pair_ratios


def test_the_table_is_aligned_markdown() -> None:
    lines = table([FASTER, SLOWER, Comparison("info", "s", [1.0], [3.0], "z")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["measured", "unit", "axis", "by hand", "ratio", "pairs", "goal", ""]
    assert cells[2] == [
        "steps, against x", "tokens/s", "100", "100", "1.00", "0.900…2.00", "≥ 0.98", "met",
    ]  # fmt: skip
    assert cells[3][6:] == ["≤ 1.1", "MISSED"]
    assert cells[4][6:] == ["", ""]


@pytest.mark.parametrize(
    ("value", "text"), [(41_300.4, "41,300"), (12.34, "12.3"), (1.234, "1.23"), (0.98765, "0.988")]
)
def test_three_digits_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_the_json_holds_every_repetition_and_no_place(tmp_path: Path) -> None:
    outcome = Outcome("Speed", [FASTER, SLOWER], {"steps": 3}, {"more": [1]}, ["a note"])
    command.write(tmp_path, "training", outcome, quick=True)
    text = (tmp_path / "training.json").read_text()
    read = json.loads(text)
    assert read["comparisons"][0]["runs"]["axis"] == [110.0, 90.0, 100.0]
    assert read["comparisons"][1]["met"] is False
    assert read["command"] == "python -m benchmarks training --quick"
    assert {"cpu", "cores", "memory_gib"} <= read["machine"].keys()
    assert {"python", "torch", "ray"} <= read["versions"].keys()
    assert str(Path.home()) not in text
    assert "## Speed" in render(outcome)
    assert "- a note" in render(outcome)


def test_a_rate_is_that_of_the_median_stretch() -> None:
    times = [0.1 * step for step in range(51)]
    late = [time + (100.0 if time > 3.05 else 0.0) for time in times]
    assert math.isclose(stretch_seconds(times), 1.0)
    assert math.isclose(stretch_seconds(late), 1.0)


def test_99_of_100_requests_are_faster_than_p99() -> None:
    assert math.isclose(p99([float(n) for n in range(101)]), 99.0)


def test_the_order_turns() -> None:
    def first(_turn: int) -> None:
        return None

    def second(_turn: int) -> None:
        return None

    assert in_turn([first, second], 0) == [first, second]
    assert in_turn([first, second], 1) == [second, first]


@pytest.mark.parametrize("config", ["gpt-stdlib", "digits"])
def test_plans_that_are_measured_are_valid(config: str) -> None:
    with Workplace() as place:
        plan = load_plan(write_plan(place, training_plan(place, config, "measured", 30))).plan
        folder = place.folder
    assert not folder.exists()
    assert plan.options == load_config(config)["options"]
    assert plan.training.steps == plan.coordination.checkpoint.every == 30
    assert plan.inference is None


def test_a_failing_process_says_what_it_printed() -> None:
    with (
        Workplace() as place,
        pytest.raises(MeasurementFailed, match="no such thing"),
    ):
        place.python("-c", "raise SystemExit('no such thing')")


def test_a_host_ends_with_the_block() -> None:
    program = "import sys; print('{\"up\": true}', flush=True); sys.stdin.read()"
    with Workplace() as place:
        with place.host("-c", program, timeout_seconds=30) as said:
            assert said == {"up": True}
        with pytest.raises(MeasurementFailed, match="did not start"):
            place.host("-c", "import sys; sys.exit(3)").__enter__()


def test_datasets_by_hand_read_what_was_written(tmp_path: Path) -> None:
    samples = [{"tokens": np.arange(4, dtype=np.uint16) + n, "label": n} for n in range(7)]
    for part in (samples[:3], samples[3:]):
        write_shard(Storage.open(str(tmp_path)), part)
    dataset, batched = ShardDataset(tmp_path), BatchShardDataset(tmp_path)
    assert len(dataset) == 7
    read = sorted((int(s["label"]), s["tokens"].tolist()) for s in (dataset[i] for i in range(7)))
    assert read == [(n, list(range(n, n + 4))) for n in range(7)]
    whole = batched.__getitems__([6, 0])
    assert whole["tokens"].tolist() == [
        dataset[6]["tokens"].tolist(),
        dataset[0]["tokens"].tolist(),
    ]
