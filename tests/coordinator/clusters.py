"""Nodes, plans and gangs for tests of placement, and what must hold of every assignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import Gang
from orchestrator.coordinator.node import Node
from orchestrator.plan import Mesh
from orchestrator.plan.plan import Plan
from orchestrator.plan.selectors import matches

degree = st.integers(1, 3)
meshes = st.builds(Mesh, replicate=degree, shard=degree, tensor=degree, pipeline=degree,
                   context=st.integers(1, 2))  # fmt: skip


def workers_of(count: int, cpu: float = 1.0, **more: Any) -> Gang:
    """A gang of workers alone, all alike."""
    return Gang(tuple({"CPU": cpu} for _ in range(count)), tuple(range(count)), **more)


def node(name: str, cpu: float, labels: Mapping[str, str] | None = None, **more: float) -> Node:
    return Node(name, {"CPU": float(cpu), **more}, labels or {})


def rack(name: str, *cpus: float) -> list[Node]:
    """Nodes ``name0``, ``name1`` … with the label ``rack``."""
    return [node(f"{name}{index}", cpu, {"rack": name}) for index, cpu in enumerate(cpus)]


@st.composite
def clusters(draw: st.DrawFn, most: int = 8) -> list[Node]:
    """Up to seven nodes, some with labels for rack and NVLink domain."""
    found = []
    for index in range(draw(st.integers(1, 7))):
        labels = {
            key: draw(st.sampled_from(["x", "y"]))
            for key in ("rack", "nvlink")
            if draw(st.booleans())
        }
        found.append(node(f"n{index}", draw(st.integers(0, most)), labels))
    return found


def plan_of(workers: Any = 2, **sections: Mapping[str, Any]) -> Plan:
    """A small plan; ``training``, ``data``, … are merged into its sections."""
    base: dict[str, Any] = {
        "data": {"source": {"kind": "text", "path": "x"}, "tasks": 1},
        "training": {"workers": workers, "global_batch": 24},
    }
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    return Plan.model_validate({"name": "p", "job": "a:B", **merged})


def check(found: Assignment, nodes: Sequence[Node], free: Mapping[str, Any] | None = None) -> None:
    """All bundles have a node that has room and labels for them; ranks are a permutation."""
    by_id = {each.id: each for each in nodes if each.alive}
    used: dict[str, Counter[str]] = {name: Counter() for name in by_id}
    assert len(found.nodes) == len(found.gang.bundles)
    for bundle, name in zip(found.gang.bundles, found.nodes, strict=True):
        used[name].update(bundle)
    for name, amounts in used.items():
        room = by_id[name].resources if free is None else free.get(name, {})
        for resource, amount in amounts.items():
            assert amount <= room.get(resource, 0.0) + 1e-3, (name, resource)
    for selector, name in zip(found.gang.selectors, found.nodes, strict=False):
        assert matches(selector, by_id[name].labels)
    assert sorted(found.ranks) == list(range(found.gang.workers))
