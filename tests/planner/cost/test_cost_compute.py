"""Operations, products and passes: sizes and efficiencies worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.cost.estimate import estimate, parse_specs
from orchestrator.planner.cost.hardware_files import find_device
from orchestrator.planner.cost.layer import layer_work
from orchestrator.planner.cost.matmul import Product, product_seconds, shape_efficiency
from orchestrator.planner.cost.passes import layer_passes, output_passes
from orchestrator.planner.cost.shape import Shape, model_flops_per_token
from tests.planner.cost.cost_specs import GPT3, LLAMA_70B, case_of, spec_of

pytestmark = pytest.mark.unit


def test_parameters_of_published_models():
    gpt3 = Shape(96, 12288, 96, 96, 4 * 12288, 51200, tied=True)
    # Megatron calls it 174.6 billion with positions (2048·12288) and tied tables.
    assert gpt3.parameters == pytest.approx(174.6e9, rel=1e-3)
    assert Shape(80, 8192, 64, 8, 28672, 32000, True).parameters == pytest.approx(68.98e9, rel=1e-3)
    assert Shape(32, 4096, 32, 8, 14336, 128256, True).parameters == pytest.approx(8.03e9, rel=1e-3)
    mixtral = Shape(32, 4096, 32, 8, 14336, 32000, True, 8, 2, 14336)
    assert mixtral.parameters == pytest.approx(46.7e9, rel=2e-3)
    active = mixtral.active_matmul_parameters + mixtral.embedding_parameters
    assert active == pytest.approx(12.9e9, rel=5e-3)


def test_model_flops_are_six_for_each_weight_and_the_attention():
    shape = Shape(96, 12288, 96, 96, 4 * 12288, 51200)
    weights = 96 * 12 * 12288**2 + 51200 * 12288
    expected = 6 * weights + 12 * 96 * 12288 * 2048
    assert model_flops_per_token(shape, 2048) == pytest.approx(expected)


def test_full_recomputation_gives_the_published_hardware_flops():
    # Narayanan et al. 2021, equation 3: 96·B·s·l·h²·(1 + s/(6h) + V/(16·l·h)).
    training = {"seq_len": 2048, "global_batch": 4, "recompute": "full", "precision": "fp16"}
    found = estimate(parse_specs(spec_of(GPT3, training))[0])
    layers, hidden, vocab, tokens = 96, 12288, 51200, 4 * 2048
    ratio = 1 + 2048 / (6 * hidden) + vocab / (16 * layers * hidden)
    flops = 96 * tokens * layers * hidden**2 * ratio
    rate = flops / found.step_seconds / 1e12
    assert found.hardware_tflops_per_device == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        # 8 × 16 tiles of 256×128 on 128 processors: one full wave; 4096/(4096 + 64) at its ends.
        (Product(2048, 2048, 4096), 4096 / 4160),
        # One tile more than a wave of 128 processors: smaller tiles lose less than half.
        (Product(2048, 2176, 4096), None),
    ],
)
def test_tiles_and_waves(product, expected):
    found = shape_efficiency(product, 128)
    if expected is not None:
        assert found == pytest.approx(expected)
    else:
        assert 0.5 < found < shape_efficiency(Product(2048, 2048, 4096), 128)


def test_the_best_published_shape_comes_near_the_ceiling():
    # 1024x10240x5120 gave A100 its 271.2 TFLOP/s (MAMF).
    assert shape_efficiency(Product(1024, 10240, 5120), 108) > 0.95


@given(
    rows=st.integers(1, 20000),
    columns=st.integers(1, 20000),
    inner=st.integers(1, 20000),
    copies=st.integers(1, 64),
)
def test_no_shape_exceeds_the_ceiling(rows, columns, inner, copies):
    product = Product(rows, columns, inner, copies)
    assert 0 < shape_efficiency(product, 108) <= 1
    device = find_device("A100-80GB-SXM")
    seconds = product_seconds(product, device, "bf16", 2)
    assert product.flops / seconds <= 271.2e12 * (1 + 1e-9)


def test_a_thin_product_is_bound_by_memory():
    device = find_device("A100-80GB-SXM")
    product = Product(1, 8192, 8192)
    read = 2 * 8192 * 8192
    assert product_seconds(product, device, "bf16", 2) >= read / 2039e9


def test_the_gradient_of_a_product_is_two_products_of_its_size():
    product = Product(3, 5, 7, 2)
    assert [part.flops for part in product.backward] == [product.flops, product.flops]


def test_a_layer_carries_out_its_published_operations():
    # Forward: 24·b·s·h² and 4·b·s²·h of attention (Narayanan et al. 2021, appendix).
    training = {"seq_len": 2048, "global_batch": 1, "attention": "unfused"}
    work = layer_work(case_of(GPT3, training))
    tokens, hidden = 2048, 12288
    assert sum(part.flops for part in work.products) == 24 * tokens * hidden**2
    assert sum(part.flops for part in work.score_products) == 4 * tokens * 2048 * hidden


def test_flash_computes_half_of_the_scores():
    training = {"seq_len": 2048, "global_batch": 1}
    assert layer_work(case_of(GPT3, training)).flash_flops == 2 * 2048 * 2048 * 12288


@pytest.mark.parametrize("mesh", [{"tp": 8}, {"cp": 2}, {"tp": 4, "cp": 2}])
def test_dimensions_divide_the_work_of_a_layer(mesh):
    training = {"seq_len": 4096, "global_batch": 1}
    whole = layer_work(case_of(LLAMA_70B, training))
    part = layer_work(case_of(LLAMA_70B, training, mesh))
    ranks = mesh.get("tp", 1) * mesh.get("cp", 1)
    flops = [sum(product.flops for product in work.products) for work in (whole, part)]
    assert flops[1] * ranks == pytest.approx(flops[0])
    assert part.flash_flops * ranks == pytest.approx(whole.flash_flops)


def test_experts_share_the_tokens_that_are_routed_to_them():
    moe = {"layers": 2, "hidden": 1024, "heads": 16, "vocab": 32000, "experts": 8, "topk": 2}
    work = layer_work(case_of(moe, {"seq_len": 1024, "global_batch": 8}, {"dp": 8, "ep": 8}))
    # 1024 tokens · topk 2 · 8 ranks over 8 experts: 2048 rows for the one local expert.
    assert Product(2048, 4096, 1024) in work.products


def test_a_small_micro_batch_waits_for_the_host():
    training = {"precision": "fp16", "global_batch": 1, "seq_len": 128}
    eager = layer_passes(case_of(None, training))
    assert eager.busy() == pytest.approx(2 * eager.host)
    compiled = layer_passes(case_of(None, training | {"compiled": True}))
    assert compiled.host == pytest.approx(eager.host / 4)


def test_transfers_among_kernels_hide_behind_a_slow_host():
    passes = layer_passes(case_of(None, {"global_batch": 1, "seq_len": 128}))
    assert passes.busy(passes.host / 10) == passes.busy()


def test_recomputation_adds_a_forward_pass():
    training = {"seq_len": 4096, "global_batch": 4, "micro_batch": 4}
    none = layer_passes(case_of(GPT3, training, {"tp": 8}))
    full = layer_passes(case_of(GPT3, training | {"recompute": "full"}, {"tp": 8}))
    assert full.busy() - none.busy() == pytest.approx(none.forward)


def test_fp8_doubles_the_ceiling_but_not_the_speed():
    training = {"seq_len": 4096, "global_batch": 1}
    hardware = {"device": "H100-80GB-SXM"}
    bf16 = layer_passes(case_of(LLAMA_70B, training, {"tp": 8}, hardware)).busy()
    fp8 = layer_passes(case_of(LLAMA_70B, training | {"precision": "fp8"}, {"tp": 8}, hardware))
    assert bf16 / 2 < fp8.busy() < bf16


def test_the_output_costs_its_products_and_its_logits():
    case = case_of(GPT3, {"seq_len": 2048, "global_batch": 1})
    passes = output_passes(case)
    logits = 2048 * 51200
    assert passes.streaming == pytest.approx(52 * logits / (2039e9 * 0.8))
    assert passes.products >= 6 * logits * 12288 / 271.2e12
