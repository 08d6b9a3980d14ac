"""A step: the bubble, what communication shows, and that the parts make the whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.planner.cost.constants import CONTENTION
from orchestrator.planner.cost.groups import mesh_groups
from orchestrator.planner.cost.parameters import stages
from orchestrator.planner.cost.step import layer_cost, step_time
from orchestrator.planner.cost.traffic import behind, expert_exchange, tensor_exchange
from tests.planner.cost.cost_specs import GPT3, LLAMA_70B, case_of

pytestmark = pytest.mark.unit

EVEN = {"layers": 64, "hidden": 8192, "heads": 64, "vocab": 8}
"""A model whose tables weigh nothing, so that all stages are equal."""


@pytest.mark.parametrize(
    ("pp", "virtual", "micro_batches"), [(8, 1, 8), (8, 1, 64), (8, 4, 64), (4, 2, 16)]
)
def test_the_bubble_is_p_minus_one_over_v_m(pp, virtual, micro_batches):
    training = {"seq_len": 2048, "global_batch": micro_batches, "virtual_stages": virtual}
    found = step_time(case_of(EVEN, training, {"pp": pp}))
    # Narayanan et al. 2021, section 2.2; sending activations adds a little.
    assert found.bubble_fraction == pytest.approx((pp - 1) / (virtual * micro_batches), rel=0.03)


def test_gpipe_and_1f1b_wait_equally():
    bubbles = [
        step_time(case_of(EVEN, {"schedule": schedule}, {"pp": 8})).bubble
        for schedule in ("gpipe", "1f1b")
    ]
    assert bubbles[0] == bubbles[1] > 0


def test_uneven_layers_go_to_the_stages_between():
    model = {**EVEN, "layers": 66}
    assert [stage.layers for stage in stages(case_of(model, None, {"pp": 8}))] == [8, 9, 8]


def test_tensor_traffic_is_two_all_reduces_in_each_pass():
    training = {"seq_len": 2048, "global_batch": 1, "precision": "fp16"}
    case = case_of(GPT3, training, {"tp": 8})
    groups = mesh_groups(case)
    once = groups.tp.all_reduce(2 * 2048 * 12288)
    assert tensor_exchange(case, groups).total == pytest.approx(4 * once)
    full = case_of(GPT3, training | {"recompute": "full"}, {"tp": 8})
    assert tensor_exchange(full, groups).total == pytest.approx(6 * once)


def test_sequence_parallel_moves_the_same_bytes_and_hides_some():
    training = {"seq_len": 8192, "global_batch": 1}
    plain = case_of(LLAMA_70B, training, {"tp": 8})
    split = case_of(LLAMA_70B, training | {"sequence_parallel": True}, {"tp": 8})
    one, other = (tensor_exchange(case, mesh_groups(case)) for case in (plain, split))
    assert one.exposed == one.total
    assert other.total == pytest.approx(one.total, rel=0.25)
    assert other.exposed == pytest.approx(other.total / 2)


def test_tokens_go_to_their_experts_and_back():
    moe = {"layers": 2, "hidden": 4096, "heads": 32, "vocab": 32000, "experts": 8, "topk": 2}
    case = case_of(moe, {"seq_len": 4096, "global_batch": 8}, {"dp": 8, "ep": 8})
    groups = mesh_groups(case)
    size = 4096 * 2 * 4096 * 2
    assert expert_exchange(case, groups).total == pytest.approx(4 * groups.ep.all_to_all(size))


def test_a_hidden_transfer_shows_for_its_contention():
    assert behind(1.0, 4.0).exposed == pytest.approx(CONTENTION)
    assert behind(4.0, 1.0).exposed == pytest.approx(3 + CONTENTION)
    assert behind(2.0, 0.0).exposed == 2.0


def test_without_overlap_everything_shows():
    case = case_of(LLAMA_70B, {"overlap": False}, {"fsdp": 64})
    found = step_time(case).communication["fsdp"]
    assert found.exposed == pytest.approx(found.total)


def test_full_sharding_moves_half_as_much_again_as_replicas():
    # 3Ψ against 2Ψ (ZeRO, section 7), with gradients and weights of two bytes each.
    training = {"precision": "fp16", "global_batch": 64, "micro_batch": 8}
    none = step_time(case_of(EVEN, training, {"dp": 8})).communication["dp"].total
    full = case_of(EVEN, training, {"fsdp": 8})
    assert step_time(full).communication["fsdp"].total == pytest.approx(1.5 * none, rel=0.05)


def test_more_replicas_reduce_longer_but_never_twice_the_bytes():
    found = [
        step_time(case_of(EVEN, {"global_batch": 512}, {"dp": dp})).communication["dp"].total
        for dp in (2, 4, 8)
    ]
    assert found == sorted(found)
    assert found[-1] < 2 * found[0]


MESHES = st.sampled_from(
    [
        {},
        {"dp": 8},
        {"tp": 4, "dp": 2},
        {"pp": 4, "tp": 2},
        {"fsdp": 8},
        {"dp": 2, "fsdp": 8},
        {"cp": 2, "tp": 2, "fsdp": 2},
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    mesh=MESHES,
    recompute=st.sampled_from(["none", "selective", "full"]),
    attention=st.sampled_from(["flash", "unfused"]),
    device=st.sampled_from(["A100-80GB-SXM", "H100-80GB-SXM", "B200", "CPU-32-core"]),
    micro_batch=st.sampled_from([1, 2, 4]),
)
def test_parts_make_the_whole(mesh, recompute, attention, device, micro_batch):
    training = {"recompute": recompute, "attention": attention, "micro_batch": micro_batch}
    case = case_of(EVEN, training, mesh, {"device": device})
    found = step_time(case)
    parts = (found.products, found.attention, found.streaming, found.host, found.bubble)
    assert all(part >= 0 for part in parts)
    assert found.total == pytest.approx(sum(parts) + found.optimizer + found.data + found.exposed)
    for exchange in found.communication.values():
        assert 0 <= exchange.exposed <= exchange.total * (1 + 1e-12)
    # A layer computed once for many cases gives the same step.
    assert step_time(case, layer_cost(case)) == found


@settings(max_examples=30, deadline=None)
@given(batch=st.sampled_from([8, 16, 32, 64]), mesh=MESHES)
def test_twice_the_batch_takes_longer_but_no_more_than_twice(batch, mesh):
    one = step_time(case_of(EVEN, {"global_batch": batch * 16}, mesh)).total
    two = step_time(case_of(EVEN, {"global_batch": batch * 32}, mesh)).total
    assert one < two <= 2 * one * (1 + 1e-9)
