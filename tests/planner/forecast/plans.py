"""A plan, the sizes of its model, and a machine to predict for."""

from __future__ import annotations

from orchestrator.plan.load import parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.planner.calibration.hardware_file import calibrated
from orchestrator.planner.cost.device import Device
from orchestrator.transformer import Transformer
from tests.planner.calibration.timed_machines import machine

MODEL = Transformer(
    layers=4,
    hidden=128,
    heads=4,
    kv_heads=2,
    ffn=352,
    vocab=259,
    seq_len=128,
    gated_ffn=True,
    tied=True,
)

TEXT = """
name: forecast
job: jobs.gpt:GPT
data: {source: {kind: text, path: "python:stdlib"}, holdout: 0.01}
training: {workers: 2, resources: {cpu: 1}, global_batch: 32, steps: 100}
coordination: {checkpoint: {every: 50}}
"""


def plan_of(*overrides: str) -> Plan:
    """Two workers on one node, with what is given put over it."""
    return parse_plan(TEXT, overrides).plan


def device_of_two_cores() -> Device:
    """A node of two cores, every number of which is known."""
    return calibrated(machine()).device
