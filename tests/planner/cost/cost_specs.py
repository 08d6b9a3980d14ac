"""Specifications that several tests start from."""

from __future__ import annotations

from typing import Any

from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.estimate import parse_specs
from orchestrator.planner.cost.resolve import resolve

GPT3: dict[str, Any] = {
    "layers": 96,
    "hidden": 12288,
    "heads": 96,
    "vocab": 51200,
    "tied": True,
}
"""175 billion parameters (Brown et al. 2020), with Megatron's padded vocabulary."""

LLAMA_70B: dict[str, Any] = {
    "layers": 80,
    "hidden": 8192,
    "heads": 64,
    "kv_heads": 8,
    "ffn": 28672,
    "vocab": 32000,
    "gated_ffn": True,
}

SMALL: dict[str, Any] = {"layers": 8, "hidden": 1024, "heads": 16, "vocab": 32000}


def spec_of(
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    mesh: dict[str, int] | None = None,
    hardware: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A specification of a small model on A100, with what is given put over it."""
    return {
        "model": model or SMALL,
        "training": {"seq_len": 1024, "global_batch": 64} | (training or {}),
        "mesh": mesh or {},
        "hardware": {"device": "A100-80GB-SXM"} | (hardware or {}),
    }


def case_of(
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    mesh: dict[str, int] | None = None,
    hardware: dict[str, Any] | None = None,
) -> Case:
    """The resolved case of the same."""
    return resolve(parse_specs(spec_of(model, training, mesh, hardware))[0]).case
