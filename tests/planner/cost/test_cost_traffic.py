"""What each dimension moves and each part of a step costs, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.planner.cost.activations import output_working_bytes
from orchestrator.planner.cost.groups import mesh_groups
from orchestrator.planner.cost.layer import layer_work
from orchestrator.planner.cost.matmul import product_seconds
from orchestrator.planner.cost.memory import memory
from orchestrator.planner.cost.parameters import Stage, stage_parameters
from orchestrator.planner.cost.passes import head_efficiency, layer_passes
from orchestrator.planner.cost.step import step_time
from orchestrator.planner.cost.traffic import (
    context_exchange,
    gradient_exchange,
    pipeline_exchange,
)
from tests.planner.cost.cost_specs import LLAMA_70B, SMALL, case_of

pytestmark = pytest.mark.unit

STREAM = 2039e9 * 0.8
"""Bytes per second of a streaming kernel on A100-80GB-SXM."""
PARAMETERS = 8 * (12 * 1024**2 + 13 * 1024) + 2 * 32000 * 1024
"""Of ``SMALL``, without the last norm: weights, four norms and nine biases of a layer."""


def held_by(case):
    return stage_parameters(case, Stage(case.shape.layers, True, True))


def test_the_parameters_of_one_rank():
    assert held_by(case_of()).total == PARAMETERS
    assert held_by(case_of(None, None, {"tp": 4})).total == PARAMETERS / 4


def test_keys_and_values_go_round_the_ring():
    training = {"seq_len": 8192, "global_batch": 1}
    case = case_of(LLAMA_70B, training, {"cp": 4})
    groups = mesh_groups(case)
    # Keys and values of 2048 tokens, 1024 wide, two bytes; 3 steps, once and twice more back.
    once = groups.cp.send(2048 * 2 * 1024 * 2)
    found = context_exchange(case, groups, layer_passes(case))
    assert found.total == pytest.approx(3 * 3 * once)
    assert found.exposed < found.total


def test_a_boundary_is_crossed_twice_for_every_chunk():
    case = case_of(None, {"virtual_stages": 2, "micro_batch": 2}, {"pp": 4, "tp": 2})
    groups = mesh_groups(case)
    # Two samples of 1024 tokens, 1024 wide, two bytes, half from each tensor rank.
    once = groups.pp.send(2 * 1024 * 1024 * 2 / 2)
    assert pipeline_exchange(case, groups).total == pytest.approx(2 * 2 * once)


def gradients(training, mesh, model=None):
    case = case_of(model, {"overlap": False} | training, mesh)
    groups = mesh_groups(case)
    dp, fsdp = gradient_exchange(case, groups, held_by(case), 1.0)
    return case, groups, dp.total, fsdp.total


def test_replicas_reduce_every_gradient():
    _, groups, dp, fsdp = gradients({"precision": "fp16"}, {"dp": 8})
    assert dp == pytest.approx(groups.states.all_reduce(2 * PARAMETERS))
    assert fsdp == 0
    # In bf16 gradients travel in fp32.
    _, _, twice, _ = gradients({}, {"dp": 8})
    assert twice == pytest.approx(groups.states.all_reduce(4 * PARAMETERS))


def test_sharded_optimizers_scatter_once_and_sharded_gradients_every_time():
    _, groups, once, _ = gradients({"sharding": "optimizer"}, {"dp": 8})
    scatter = groups.states.all_gather(4 * PARAMETERS)
    gather = groups.states.all_gather(2 * PARAMETERS)
    assert once == pytest.approx(scatter + gather)
    # 64 samples over 8 ranks are 8 micro-batches.
    _, _, every, _ = gradients({"sharding": "gradients"}, {"dp": 8})
    assert every == pytest.approx(8 * scatter + gather)


def test_hybrid_shards_reduce_their_own_part_over_replicas():
    _, groups, dp, _ = gradients({}, {"dp": 2, "fsdp": 8})
    assert dp == pytest.approx(groups.dp.all_reduce(4 * PARAMETERS / 8))


def test_experts_are_reduced_by_the_ranks_that_repeat_them():
    moe = {**SMALL, "experts": 8, "topk": 2}
    case, groups, dp, _ = gradients({}, {"dp": 8, "ep": 4}, moe)
    held = held_by(case)
    assert held.experts == 8 * 2 * 2 * 1024 * 4096
    parts = [groups.states.all_reduce(4 * part) for part in (held.shared, held.experts)]
    assert dp == pytest.approx(sum(parts))
    _, groups, alone, _ = gradients({}, {"dp": 8, "ep": 8}, moe)
    assert alone == pytest.approx(groups.states.all_reduce(4 * held.shared))


def test_the_optimizer_streams_the_states_that_a_rank_updates():
    whole = step_time(case_of(None, None, {"dp": 8})).optimizer
    assert whole == pytest.approx(2e-3 + 46 * PARAMETERS / STREAM)
    part = step_time(case_of(None, {"sharding": "optimizer"}, {"dp": 8})).optimizer
    assert part == pytest.approx(2e-3 + 46 * PARAMETERS / 8 / STREAM)
    sgd = step_time(case_of(None, {"optimizer": "sgd"}, {"dp": 8})).optimizer
    assert sgd == pytest.approx(2e-3 + 34 * PARAMETERS / STREAM)


def test_data_that_is_not_read_ahead_shows():
    found = step_time(case_of(None, {"overlap": False}, {"dp": 8}))
    # 8 samples of 1024 tokens for a rank, four bytes each, over 200 GB/s.
    assert found.data == pytest.approx(8 * 1024 * 4 / 200e9)
    assert step_time(case_of(None, None, {"dp": 8})).data == 0


def test_flash_computes_five_products_backward_for_two_forward():
    passes = layer_passes(case_of(LLAMA_70B, {"seq_len": 8192, "global_batch": 1}))
    forward = 2 * 8192**2 * 8192 / (312e12 * 0.5)
    assert passes.attention == pytest.approx(forward + 2.5 * forward * 0.5 / 0.42)


@pytest.mark.parametrize(("size", "share"), [(128, 1.0), (64, 0.8333), (256, 1.0)])
def test_flash_is_slower_for_small_heads(size, share):
    assert head_efficiency(size) == pytest.approx(share, abs=1e-4)


def test_scores_without_flash_are_streamed():
    training = {"seq_len": 4096, "global_batch": 1, "attention": "unfused", "precision": "fp16"}
    case = case_of(LLAMA_70B, training)
    products = [part for one in layer_work(case).score_products for part in (one, *one.backward)]
    assert sum(part.flops for part in products) == 3 * 4 * 4096**2 * 8192
    device = case.cluster.device
    arithmetic = sum(product_seconds(part, device, "fp16", 2) for part in products)
    # Beside the products 4.5 passes forward and 5.5 backward over 64 matrices of scores.
    scores = 64 * 4096**2 * 2 / STREAM
    assert layer_passes(case).attention == pytest.approx(arithmetic + 10 * scores)


def test_a_compiler_fuses_elementwise_kernels():
    eager = layer_passes(case_of()).streaming
    compiled = layer_passes(case_of(None, {"compiled": True})).streaming
    # 12 h for norms and residuals, 8 h for layout, 8 h for the activation; thrice, two bytes.
    assert eager == pytest.approx(3 * 1024 * 28 * 1024 * 2 / STREAM)
    assert compiled == pytest.approx(0.7 * eager)


def test_buffers_hold_what_is_gathered_accumulated_or_cast():
    layer = 12 * 1024**2 + 13 * 1024
    assert memory(case_of(None, {"precision": "fp16"}, {"dp": 8})).buffers == 0
    assert memory(case_of(None, None, {"dp": 8})).buffers == 2 * PARAMETERS
    sharded = memory(case_of(None, {"sharding": "gradients"}, {"dp": 8})).buffers
    assert sharded == 2 * PARAMETERS / 8
    # At the loss: the table in two bytes, and its gradient.
    assert memory(case_of(None, None, {"fsdp": 8})).buffers == 2 * 2 * 32000 * 1024
    fp8 = memory(case_of(None, {"precision": "fp8"}, {"dp": 8})).buffers
    assert fp8 == 2 * PARAMETERS + 2 * PARAMETERS
    gathered = memory(case_of(None, {"precision": "fp8"}, {"fsdp": 8})).buffers
    assert gathered == 2 * 2 * 32000 * 1024 + 2 * 2 * layer


def test_the_loss_holds_four_bytes_a_logit():
    model = {**SMALL, "vocab": 256_000}
    one, four = (memory(case_of(model, None, {"tp": tp})).activations for tp in (1, 4))
    assert one >= 4 * 1024 * 256_000
    assert one - four >= 4 * 1024 * 256_000 * 3 / 4


def test_the_last_product_of_a_sequence_parallel_rank_reads_all_states():
    case = case_of(SMALL, {"sequence_parallel": True}, {"tp": 4})
    tokens, hidden = case.rank_tokens, case.shape.hidden
    logits = 4 * tokens * case.shape.vocab / 4
    assert output_working_bytes(case) == logits + 2 * 2 * tokens * hidden / 4 + 4 * tokens * hidden


def test_the_only_layer_is_followed_by_the_embedding():
    one, two = (
        memory(
            case_of({**SMALL, "layers": count, "vocab": 1024}, {"sharding": "full"}, {"fsdp": 8})
        )
        for count in (1, 2)
    )
    layer = 2 * stage_parameters(case_of({**SMALL, "layers": 2}), Stage(2, True, True)).layer
    assert two.buffers == pytest.approx(3 * layer)
    assert one.buffers < two.buffers
