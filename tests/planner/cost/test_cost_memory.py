"""Memory: ZeRO's table and Korthikanti's equations, number by number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.cost.activations import in_flight, kept_layer_bytes
from orchestrator.planner.cost.memory import FIT_SHARE, capacity_bytes, fits, memory
from orchestrator.planner.cost.states import state_bytes
from tests.planner.cost.cost_specs import GPT3, LLAMA_70B, case_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("sharding", "ranks", "gigabytes"),
    [
        # Rajbhandari et al. 2020, table 1, 7.5 billion parameters.
        ("none", 64, 120.0),
        ("optimizer", 64, 31.4),
        ("gradients", 64, 16.6),
        ("full", 64, 1.88),
        ("optimizer", 4, 52.5),
        ("gradients", 16, 21.6),
        ("full", 1024, 0.12),
    ],
)
def test_the_zero_table(sharding, ranks, gigabytes):
    found = state_bytes(7.5e9, ranks, sharding).total / 1e9
    assert found == pytest.approx(gigabytes, abs=0.05 if gigabytes > 1 else 0.005)


@given(parameters=st.integers(1, 10**13), ranks=st.integers(1, 10**5))
def test_the_zero_formulas_are_exact(parameters, ranks):
    p, n = parameters, ranks
    exact = {
        "none": 16 * p,
        "optimizer": 4 * p + 12 * p / n,
        "gradients": 2 * p + 14 * p / n,
        "full": 16 * p / n,
    }
    for sharding, expected in exact.items():
        assert state_bytes(p, n, sharding).total == pytest.approx(expected, rel=1e-12)


def test_fp32_and_sgd():
    assert state_bytes(10, 1, "none", "fp32", "adamw").total == 160
    assert state_bytes(10, 1, "none", "fp32", "sgd").total == 120
    assert state_bytes(10, 1, "none", "bf16", "sgd").total == 120


def layer(tp: int = 1, **training: object) -> float:
    given = {"seq_len": 2048, "global_batch": 1, "precision": "fp16", "attention": "unfused"}
    return kept_layer_bytes(case_of(GPT3, given | training, {"tp": tp}))


SBH = 2048 * 12288
"""s·b·h of GPT-3 with one sample."""
SCORES = 5 * 96 * 2048 / 12288
"""5·a·s/h = 80, the number in Korthikanti et al. 2022, section 4.1."""


def test_activations_of_a_layer():
    # Equations 1, 2, 4 and 6, and the input alone under full recomputation.
    assert layer() == pytest.approx(SBH * (34 + SCORES))
    assert layer(8) == pytest.approx(SBH * (10 + 24 / 8 + SCORES / 8))
    assert layer(8, sequence_parallel=True) == pytest.approx(SBH / 8 * (34 + SCORES))
    assert layer(8, recompute="selective") == pytest.approx(SBH * (10 + 24 / 8))
    assert layer(8, recompute="selective", sequence_parallel=True) == pytest.approx(SBH * 34 / 8)
    assert layer(8, recompute="full") == pytest.approx(2 * SBH)


@pytest.mark.parametrize(
    ("training", "percent"),
    [
        # Korthikanti et al. 2022, figure 7, GPT-3 with t = 8, of plain tensor parallelism.
        ({"sequence_parallel": True}, 62.04),
        ({"recompute": "selective"}, 56.53),
        ({"recompute": "selective", "sequence_parallel": True}, 18.49),
        ({"recompute": "full"}, 8.71),
    ],
)
def test_published_ratios(training, percent):
    assert 100 * layer(8, **training) / layer(8) == pytest.approx(percent, rel=0.002)


def test_flash_keeps_no_scores():
    statistics = 4 * 2048 * 96
    assert layer(attention="flash") == pytest.approx(SBH * 34 + statistics)


def test_grouped_queries_and_gates_change_the_width():
    case = case_of(LLAMA_70B, {"seq_len": 4096, "global_batch": 1})
    tokens, hidden, kv, ffn = 4096, 8192, 1024, 28672
    # Norm and product inputs 8h, query and context 4h, key and value 4·kv, four times 2·ffn: gate,
    # activated gate, up and their product; a compiler keeps one less.
    width = 8 * hidden + 4 * hidden + 4 * kv + 8 * ffn
    assert kept_layer_bytes(case) == pytest.approx(tokens * width + 4 * tokens * 64)
    fused = case_of(LLAMA_70B, {"seq_len": 4096, "global_batch": 1, "compiled": True})
    less = kept_layer_bytes(case) - kept_layer_bytes(fused)
    assert less == pytest.approx(tokens * 2 * ffn)


def test_context_ranks_hold_a_part_of_the_sequence():
    one = case_of(LLAMA_70B, {"seq_len": 4096, "global_batch": 1})
    four = case_of(LLAMA_70B, {"seq_len": 4096, "global_batch": 1}, {"cp": 4})
    assert kept_layer_bytes(four) == pytest.approx(kept_layer_bytes(one) / 4)


@pytest.mark.parametrize(
    ("schedule", "virtual", "expected"),
    [("gpipe", 1, 64), ("1f1b", 1, 8), ("interleaved", 3, 8 + 7 / 3)],
)
def test_micro_batches_in_flight(schedule, virtual, expected):
    training = {"schedule": schedule, "virtual_stages": virtual}
    case = case_of(GPT3, training, {"pp": 8})
    assert in_flight(case) == pytest.approx(expected)


def test_interleaving_costs_the_published_share_of_memory():
    # 1 + (p - 1)/(p·v) (Korthikanti et al. 2022, section 4.2.3).
    case = case_of(GPT3, {"virtual_stages": 3}, {"pp": 8})
    assert in_flight(case) / 8 == pytest.approx(1 + 7 / (8 * 3))


def test_the_parts_sum_to_the_peak_and_sharding_lowers_it():
    peaks = []
    for sharding in ("none", "optimizer", "gradients", "full"):
        found = memory(case_of(None, {"sharding": sharding}, {"dp": 8}))
        states = found.parameters + found.gradients + found.optimizer
        assert found.peak == states + found.activations + found.buffers
        peaks.append(states)
    assert peaks == sorted(peaks, reverse=True)


def test_what_fits_leaves_the_reserve_free():
    case = case_of()
    capacity = capacity_bytes(case.cluster.device)
    assert capacity < FIT_SHARE * case.cluster.device.memory_bytes
    assert fits(case, capacity)
    assert not fits(case, capacity * 1.0001)


def test_experts_are_split_by_their_dimension():
    moe = {"layers": 4, "hidden": 1024, "heads": 16, "vocab": 32000, "experts": 8, "topk": 2}
    one = memory(case_of(moe, None, {"dp": 8}))
    eight = memory(case_of(moe, None, {"dp": 8, "ep": 8}))
    experts = 4 * 8 * 2 * 1024 * 4096
    assert one.parameters - eight.parameters == pytest.approx(2 * experts * 7 / 8)
