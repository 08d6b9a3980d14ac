"""The planner against published measurements: the bounds that a change may not cross.

Tighter than the goals of docs/planner.md where they are met, and no looser than today where
they are not, so that an accuracy that was reached is not lost unnoticed.
"""

from __future__ import annotations

import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.collective_sets import one_node_pairs, peak_pairs
from benchmarks.accuracy.failure_sets import daly_pairs, ettr_pairs, mttf_pairs
from benchmarks.accuracy.memory_sets import fitted, profile_pairs, ratio_pairs, zero_pairs
from benchmarks.accuracy.published import VARIABLE, absent, folder
from benchmarks.accuracy.scores import choice, null_pairs, score
from benchmarks.accuracy.training_sets import SETS

pytestmark = pytest.mark.unit

needs_tables = pytest.mark.skipif(folder() is None, reason=absent())
BY_NAME = {part.name: part for part in SETS}


@needs_tables
@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("factorial, one node", 0.10),
        ("SC'21 table 1", 0.03),
        ("SC'21 table 2, 3D", 0.05),
        ("Megatron-Core H100", 0.08),
        ("llm-foundry, several nodes", 0.10),
        ("NeMo 24.07", 0.08),
        ("llm-foundry, one node", 0.14),
    ],
)
def test_step_time(name, mean):
    assert score(BY_NAME[name].pairs()).mean <= mean


@needs_tables
def test_the_null_model_is_beaten_where_configurations_differ():
    pairs = BY_NAME["factorial, one node"].pairs()
    assert score(pairs).mean < score(null_pairs(pairs)).mean / 5


@needs_tables
def test_regret_of_the_chosen_plan():
    made = choice([pair for part in SETS if part.single_node for pair in part.pairs()])
    assert made.cells > 50
    assert made.mean_regret <= 0.05
    assert made.within_three >= 0.9


@needs_tables
def test_memory():
    # The printed table is rounded: 16.6, 1.9.
    assert score(zero_pairs()).worst < 0.005
    assert score(ratio_pairs()).mean < 0.01
    profiles = profile_pairs()
    assert score(profiles["states"]).mean < 0.06
    assert score(profiles["peak"]).mean < 0.10


@needs_tables
def test_runs_that_fitted_are_not_far_beyond_the_device():
    shares = [found.memory.peak / found.case.cluster.device.memory_bytes for _, found in fitted()]
    assert max(shares) < 1.05


@needs_tables
def test_collectives():
    assert score(one_node_pairs()).mean < 0.13
    assert score(peak_pairs()).worst < 0.06


@needs_tables
def test_the_tables_are_printed(capsys):
    assert main() == 0
    printed = capsys.readouterr().out
    assert all(part.name in printed for part in SETS)
    assert "NULL" in printed


def test_absent_tables_are_said_to_be_absent(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert main() == 2
    assert VARIABLE in capsys.readouterr().err


@needs_tables
def test_best_intervals_are_exact_and_failures_near():
    daly = daly_pairs()
    assert len(daly) == 3
    assert score(daly).worst == 0.0
    assert score(mttf_pairs()).worst < 0.005
    assert score(ettr_pairs()).worst < 0.002
