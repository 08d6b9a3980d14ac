"""``estimate``: what goes in, what comes out, and what is said when it cannot be meant."""

from __future__ import annotations

import json
import math

import pytest

from orchestrator.errors import PlanError
from orchestrator.planner.cost.compare import compare
from orchestrator.planner.cost.estimate import estimate, estimate_all, estimate_view, parse_specs
from orchestrator.planner.cost.estimate_text import comparison_text, estimate_text, seconds
from tests.planner.cost.cost_specs import LLAMA_70B, SMALL, spec_of

pytestmark = pytest.mark.unit

FULL = spec_of(
    LLAMA_70B,
    {"seq_len": 4096, "global_batch": 512, "sequence_parallel": True},
    {"tp": 8, "pp": 4, "dp": 2},
    {"device": "H100-80GB-SXM", "devices": 64, "price_per_device_hour": 3.6},
)


def problem_of(values: object):
    with pytest.raises(PlanError) as raised:
        estimate_all(values)
    assert raised.value.exit_code == 2
    return raised.value.problems[0]


def test_the_output_has_every_promised_key():
    view = estimate_view(estimate_all(FULL)[0])
    promised = {
        "step_seconds",
        "tokens_per_second_per_device",
        "model_tflops_per_device",
        "hardware_tflops_per_device",
        "mfu",
        "memory_bytes",
        "fits",
        "communication_seconds",
        "bubble_fraction",
        "reasons",
        "defaults",
    }
    assert promised <= set(view)
    assert set(view["memory_bytes"]) == {
        "parameters",
        "gradients",
        "optimizer",
        "activations",
        "buffers",
        "peak",
    }
    assert set(view["communication_seconds"]) == {"dp", "fsdp", "tp", "pp", "cp", "ep"}
    assert set(view["communication_seconds"]["tp"]) == {"total", "exposed"}
    assert json.loads(json.dumps(view)) == view


def test_the_numbers_agree_with_one_another():
    found = estimate_all(FULL)[0]
    view = estimate_view(found)
    tokens = 512 * 4096
    assert view["tokens_per_second"] == pytest.approx(tokens / view["step_seconds"])
    assert view["mfu"] == pytest.approx(view["model_tflops_per_device"] / 989)
    assert sum(view["seconds"].values()) == pytest.approx(view["step_seconds"])
    # 64 devices at 3.6 an hour cost 0.064 a second.
    paid = 0.064 * view["step_seconds"] / tokens * 1e6
    assert view["cost_per_million_tokens"] == pytest.approx(paid)
    assert 0 < view["mfu"] < 0.8


def test_time_and_money_to_finish():
    training = FULL["training"] | {"tokens": 1e12}
    view = estimate_view(estimate_all({**FULL, "training": training})[0])
    assert view["seconds_to_finish"] == pytest.approx(1e12 / view["tokens_per_second"])
    assert view["cost_to_finish"] == pytest.approx(view["cost_per_million_tokens"] * 1e6)


def test_without_a_price_there_is_no_cost():
    assert "cost_per_million_tokens" not in estimate_view(estimate_all(spec_of())[0])


def test_checkpoints_take_their_share():
    plain = estimate_all(spec_of())[0].step_seconds
    training = {"checkpoint_seconds": "10s", "checkpoint_every": 100}
    assert estimate_all(spec_of(None, training))[0].step_seconds == pytest.approx(plain + 0.1)


def test_every_default_is_listed_and_nothing_given_is():
    found = estimate_all({"model": SMALL, "training": {"seq_len": 512, "global_batch": 8},
                          "hardware": {"device": "V100-32GB"}})[0]  # fmt: skip
    assert found.defaults["training.precision"] == "bf16"
    assert found.defaults["mesh.tp"] == 1
    assert found.defaults["model.ffn"] == 4096
    assert found.defaults["hardware.inter.bandwidth"] == 12.5e9
    assert not {"model.layers", "training.seq_len", "hardware.device"} & set(found.defaults)
    # Asking for the defaults gives the same answer.
    training = {
        name.split(".")[1]: value
        for name, value in found.defaults.items()
        if name.startswith("training.")
    }
    again = spec_of(SMALL, {"seq_len": 512, "global_batch": 8} | training, None,
                    {"device": "V100-32GB"})  # fmt: skip
    assert estimate_all(again)[0].step_seconds == found.step_seconds


def test_dp_takes_the_devices_that_are_left():
    found = estimate_all(spec_of(None, None, {"tp": 4}, {"devices": 32}))[0]
    assert found.case.degrees.dp == 8
    assert found.defaults["mesh.dp"] == 8


def test_a_list_gives_a_list():
    assert len(estimate_all([FULL, spec_of()])) == 2


def test_an_unknown_device_is_answered_with_the_nearest():
    problem = problem_of(spec_of(hardware={"device": "H100-80G-SMX"}))
    assert problem.where == "hardware.device"
    assert "H100-80GB-SXM" in problem.works
    assert "A100-80GB-SXM" in problem.arithmetic


def test_a_device_of_ones_own():
    device = {
        "name": "mine",
        "generation": "mine",
        "peak_flops": {"bf16": 1e14},
        "flash": {"forward": 0.5, "backward": 0.4},
        "memory_bytes": "64GiB",
        "memory_bandwidth": "1TB/s",
        "intra": {"bandwidth": "100GB/s"},
        "inter": {"bandwidth": "400Gbps"},
    }
    found = estimate_all(spec_of(hardware={"device": device}))[0]
    assert found.case.cluster.inter.bandwidth == 50e9
    problem = problem_of(spec_of(hardware={"device": {**device, "memory_bytes": "64 bytes"}}))
    assert problem.where == "hardware.device.memory_bytes"


def test_a_mesh_that_does_not_fill_shows_every_factor():
    problem = problem_of(spec_of(None, None, {"tp": 4, "pp": 2, "dp": 3}, {"devices": 64}))
    assert problem.arithmetic == (
        "dp 3 · fsdp 1 · tp 4 · pp 2 · cp 1 = 24, and hardware.devices is 64"
    )
    assert "mesh.dp: 8" in problem.works


@pytest.mark.parametrize("link", ["intra", "inter"])
@pytest.mark.parametrize("bandwidth", [0, "0GB/s", -1, "fast", "12 parsecs"])
def test_a_link_that_moves_nothing_is_refused(link, bandwidth):
    problem = problem_of(spec_of(hardware={link: {"bandwidth": bandwidth}}))
    assert problem.where == f"hardware.{link}.bandwidth"
    assert "300GB/s" in problem.works


@pytest.mark.parametrize(
    ("training", "mesh", "where"),
    [
        ({"sharding": "none"}, {"fsdp": 8}, "training.sharding"),
        ({"schedule": "1f1b", "virtual_stages": 2}, {"pp": 2}, "training.virtual_stages"),
        ({"schedule": "interleaved"}, {}, "training.schedule"),
        ({"global_batch": 63}, {"dp": 8}, "training.global_batch"),
        ({}, {"tp": 3}, "mesh.tp"),
        ({}, {"pp": 9}, "mesh.pp"),
        ({"seq_len": 1023}, {"cp": 2}, "mesh.cp"),
        ({}, {"ep": 2}, "mesh.ep"),
    ],
)
def test_contradictions_are_named(training, mesh, where):
    problem = problem_of(spec_of(None, training, mesh))
    assert problem.where == where
    assert problem.works


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ({**SMALL, "topk": 2}, "model.topk"),
        ({**SMALL, "shared_experts": 1}, "model.shared_experts"),
        ({**SMALL, "experts": 4, "topk": 8}, "model.topk"),
        ({**SMALL, "heads": 12}, "model.heads"),
        ({**SMALL, "kv_heads": 3}, "model.kv_heads"),
    ],
)
def test_an_impossible_model_is_named(model, where):
    assert problem_of(spec_of(model)).where == where


def test_all_problems_of_all_specifications_are_reported():
    bad = {"model": {"layers": 0, "hiden": 8}, "training": {}, "hardware": {}}
    with pytest.raises(PlanError) as raised:
        parse_specs([FULL, bad])
    found = {problem.where: problem for problem in raised.value.problems}
    assert found["[1].model.hiden"].works == "hidden"
    assert "at least 1" in found["[1].model.layers"].what
    assert "Tokens of one sample" in found["[1].training.seq_len"].what
    assert "[1].hardware.device" in found


@pytest.mark.parametrize("values", [[], None, 3, "text", [[]]])
def test_what_is_no_specification_is_refused(values):
    with pytest.raises(PlanError):
        estimate_all(values)


def test_a_case_too_large_is_an_estimate_that_says_why():
    found = estimate(parse_specs(spec_of(LLAMA_70B))[0])
    assert not found.fits
    assert any("does not fit" in reason and "more devices" in reason for reason in found.reasons)


def test_the_text_says_what_the_numbers_say():
    found = estimate_all(FULL)[0]
    text = estimate_text(found)
    assert seconds(found.step_seconds) in text
    assert "H100-80GB-SXM" in text
    assert "defaults used" in text
    assert all(reason in text for reason in found.reasons)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(9e-5, "90 us"), (4.21e-3, "4.21 ms"), (3.5, "3.5 s"), (250.0, "250 s"), (7560, "2.1 h")],
)
def test_seconds_are_shown_in_a_unit_that_suits_them(value, shown):
    assert seconds(value) == shown


def test_two_factorings_are_compared_part_by_part():
    other = {**FULL, "mesh": {"tp": 2, "pp": 16, "dp": 2}}
    found = compare(*estimate_all([FULL, other]))
    gap = found.worse.step_seconds - found.better.step_seconds
    assert math.isclose(sum(part for _, part in found.differences), gap, rel_tol=1e-9)
    assert str(found.better.case.degrees) in found.verdict
    assert "faster" in found.verdict or "fits" in found.verdict
    assert comparison_text(found).startswith(found.verdict)
    assert found.view()["verdict"] == found.verdict


def test_what_fits_is_better_than_what_does_not():
    other = {**FULL, "mesh": {"dp": 64}}
    found = compare(*estimate_all([other, FULL]))
    assert found.better.fits
    assert "does not" in found.verdict
