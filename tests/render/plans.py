"""Plans of many shapes, and random ones, to be rendered."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from orchestrator.errors import PlanError
from orchestrator.plan.load import load_plan, parse_plan
from orchestrator.plan.plan import Plan
from tests.render.kubernetes_schemas import ROOT

SHAPES: dict[str, tuple[str, list[str]]] = {
    "batch": ("digits", ["inference=null"]),
    "serving": ("digits", []),
    "elastic": ("gpt-mesh", []),
    "bucket": ("gpt-stdlib", ["storage=s3://a-bucket/runs"]),
    "gpus": ("gpt-stdlib", ["training.resources={cpu: 8, gpu: 1, memory: 64GiB}"]),
    "gpu-replicas": (
        "gpt-stdlib",
        [
            "training.workers=[1,4]",
            "inference.resources={cpu: 8, gpu: 1}",
            "inference.replicas=[2,6]",
        ],
    ),
    "tensor-gpus": (
        "gpt-mesh",
        [
            "training.workers=[4,16]",
            "training.global_batch=64",
            "training.resources={cpu: 8, gpu: 1}",
            "model={shard: -1, tensor: 4}",
            "options.heads=8",
            "options.kv_heads=4",
        ],
    ),
    "labels": (
        "gpt-stdlib",
        [
            "training.resources={gpu: 1, label_selector: {accelerator: 'in(H200, H100)'}}",
            "data.resources={cpu: 1, label_selector: {accelerator: '!in(H200, H100)'}}",
            "inference.resources={gpu: 1, label_selector: {ray.io/accelerator-type: L4}}",
            "coordination.gang.topology=[nvlink-domain, topology.kubernetes.io/zone]",
        ],
    ),
    "custom": ("digits", ["training.resources={cpu: 2, custom: {licence: 1}}"]),
}
"""A name → a plan in ``configs/`` and what is changed in it."""


def plan_of(shape: str, *overrides: str) -> Plan:
    """The plan of one shape."""
    name, changed = SHAPES[shape]
    return load_plan(ROOT / "configs" / f"{name}.yaml", [*changed, *overrides]).plan


_BASE = """
name: random
job: jobs.gpt:GPT
data: {source: {kind: text, path: "python:stdlib"}}
"""
_SELECTORS = ["{}", "{zone: a}", "{zone: '!a'}", "{zone: 'in(a, b)', rack: r1}"]


def _resources() -> st.SearchStrategy[str]:
    return st.builds(
        lambda cpu, gpu, memory, selector: (
            f"{{cpu: {cpu}, gpu: {gpu}, memory: {memory}, label_selector: {selector}}}"
        ),
        st.sampled_from([0.25, 0.5, 1, 1.5, 3, 8]),
        st.sampled_from([0, 0, 0.5, 1, 2]),
        st.sampled_from([0, 2**30, 3 * 2**30]),
        st.sampled_from(_SELECTORS),
    )


@st.composite
def plans(draw: Any) -> Plan:
    """Plans that can be run: any resources and labels on each axis, any legal mesh and range."""
    tensor = draw(st.sampled_from([1, 1, 2, 4]))
    low = draw(st.integers(1, 4))
    high = draw(st.integers(low, 9))
    overrides = [
        f"training.workers=[{low * tensor},{high * tensor}]",
        f"model={{shard: -1, tensor: {tensor}}}",
        f"training.global_batch={draw(st.sampled_from([24, 32, 60]))}",
        f"training.resources={draw(_resources())}",
        f"data.resources={draw(_resources())}",
        f"data.tasks={draw(st.integers(1, 9))}",
    ]
    if draw(st.booleans()):
        first = draw(st.integers(1, 3))
        last = draw(st.integers(first, 5))
        replicas = f"replicas: [{first}, {last}]"
        overrides.append(f"inference={{{replicas}, resources: {draw(_resources())}}}")
    try:
        return parse_plan(_BASE, overrides).plan
    except PlanError:
        from hypothesis import reject

        reject()
        raise
