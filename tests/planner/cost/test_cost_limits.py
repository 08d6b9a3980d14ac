"""Whatever is asked, the answer is finite and within what the hardware can do, or a refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator.errors import PlanError
from orchestrator.planner.cost.estimate import estimate, estimate_view, parse_specs

pytestmark = pytest.mark.unit

SMALL_DEGREES = st.sampled_from([1, 1, 2, 3, 4, 8, 16])

MODELS = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 128),
        "hidden": st.sampled_from([64, 768, 1000, 4096, 12288]),
        "heads": st.sampled_from([1, 8, 12, 64]),
        "vocab": st.integers(1, 300_000),
    },
    optional={
        "kv_heads": st.sampled_from([1, 2, 8]),
        "gated_ffn": st.booleans(),
        "ffn": st.sampled_from([128, 11008, 49152]),
        "experts": st.sampled_from([0, 8, 64]),
        "shared_experts": st.sampled_from([0, 1]),
        "tied": st.booleans(),
    },
)
TRAININGS = st.fixed_dictionaries(
    {
        "seq_len": st.sampled_from([1, 512, 4096, 131072]),
        "global_batch": st.sampled_from([1, 16, 96, 1024]),
    },
    optional={
        "micro_batch": SMALL_DEGREES,
        "precision": st.sampled_from(["fp32", "bf16", "fp16", "fp8"]),
        "recompute": st.sampled_from(["none", "selective", "full"]),
        "attention": st.sampled_from(["flash", "unfused"]),
        "compiled": st.booleans(),
        "optimizer": st.sampled_from(["adamw", "sgd"]),
        "schedule": st.sampled_from(["gpipe", "1f1b", "interleaved"]),
        "virtual_stages": st.sampled_from([1, 2, 4]),
        "sequence_parallel": st.booleans(),
        "sharding": st.sampled_from(["none", "optimizer", "gradients", "full"]),
        "overlap": st.booleans(),
    },
)
MESHES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("dp", "fsdp", "tp", "pp", "cp", "ep"), SMALL_DEGREES)
)
DEVICES = st.sampled_from(["V100", "A100-40GB-PCIe", "H200", "GB200", "GH200", "CPU"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=MODELS, training=TRAININGS, mesh=MESHES, device=DEVICES)
def test_an_estimate_stays_within_the_hardware(model, training, mesh, device):
    spec = {"model": model, "training": training, "mesh": mesh, "hardware": {"device": device}}
    try:
        found = estimate(parse_specs(spec)[0])
    except PlanError:
        event("refused")
        return
    event("estimated")
    work, hardware = found.case.work, found.case.cluster.device
    assert 0 < found.step_seconds < math.inf
    assert 0 < found.memory.peak < math.inf
    # No matrix ceiling is exceeded, though attention is counted in full and computed by half.
    ceiling = max(hardware.ceiling(work.precision), hardware.ceiling("bf16"))
    assert found.model_tflops_per_device * 1e12 <= ceiling * (1 + 1e-9)
    assert found.hardware_tflops_per_device >= found.model_tflops_per_device
    assert sum(estimate_view(found)["seconds"].values()) == pytest.approx(found.step_seconds)
    if found.case.degrees.pp == 1:
        assert found.time.bubble == 0
