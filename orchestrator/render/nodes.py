"""On which Kubernetes nodes may a pod lie, and which labels does Ray then know it by?

The plan selects Ray's labels; Kubernetes nodes have labels of their own. A pod is bound to nodes
by the profile's translation, and tells Ray what the plan asked for. Pure.
"""

from __future__ import annotations

from typing import Any

from orchestrator.plan.selectors import Selector, parse
from orchestrator.render.profile import Profile
from orchestrator.render.yaml_text import Node, Note

PREEMPTIBLE: dict[str, tuple[str, ...]] = {
    "cloud.google.com/gke-spot": ("true",),
    "cloud.google.com/gke-preemptible": ("true",),
    "karpenter.sh/capacity-type": ("spot",),
    "eks.amazonaws.com/capacityType": ("SPOT",),
    "kubernetes.azure.com/scalesetpriority": ("spot",),
}
"""What clouds call nodes that they may take away; ``NotIn`` also matches nodes without the
label."""

DETECTED = ("ray.io/accelerator-type", "ray.io/node-id", "ray.io/node-group")
"""Labels that Ray gives a node by itself, from what it finds there."""


def ray_labels(selector: Selector) -> dict[str, str]:
    """Labels for Ray that meet the selector; of several values the first by name."""
    found = {}
    for key, text in sorted(selector.items()):
        values = parse(text)
        if not values.negated and key not in DETECTED:
            found[key] = min(values.names)
    return found


def placement(selector: Selector, profile: Profile) -> dict[str, Node]:
    """``nodeSelector`` and ``affinity`` of worker pods."""
    found: dict[str, Node] = {}
    if profile.node_selector:
        found["nodeSelector"] = dict(sorted(profile.node_selector.items()))
    affinity: dict[str, Node] = {}
    terms = [_term(key, text, profile) for key, text in sorted(selector.items())]
    if terms:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = Note(
            {"nodeSelectorTerms": [{"matchExpressions": terms}]},
            "The nodes that the plan's label_selector means.",
        )
    if profile.spot:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = Note(
            [_preferred(key, value) for key, value in sorted(profile.spot.items())],
            "Preemptible nodes, if there are any; else others.",
        )
    if affinity:
        found["affinity"] = {"nodeAffinity": affinity}
    return found


def head_placement() -> dict[str, Node]:
    """``affinity`` of the head: on no node that may be taken away."""
    terms = [
        {"key": key, "operator": "NotIn", "values": list(values)}
        for key, values in PREEMPTIBLE.items()
    ]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    return {
        "affinity": Note(
            {"nodeAffinity": rule},
            "Never on a preemptible node: the driver and the coordinator are here. Nodes without "
            "these labels will do.",
        )
    }


def tolerations(profile: Profile, gpus: int) -> list[Node]:
    """Taints of nodes for GPUs, and those of the profile."""
    found: list[Node] = []
    if gpus:
        found.append({"key": profile.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    return found + [taint.model_dump(exclude_none=True) for taint in profile.tolerations]


def _term(key: str, text: str, profile: Profile) -> dict[str, Any]:
    values = parse(text)
    names = sorted(profile.value_map.get(name, name) for name in values.names)
    if not values.negated and key not in DETECTED:
        # Ray is told one value, so the pod must lie on a node of that very value.
        names = [profile.value_map.get(min(values.names), min(values.names))]
    return {
        "key": profile.label_map.get(key, key),
        "operator": "NotIn" if values.negated else "In",
        "values": names,
    }


def _preferred(key: str, value: str) -> dict[str, Any]:
    expression = {"key": key, "operator": "In", "values": [value]}
    return {"weight": 100, "preference": {"matchExpressions": [expression]}}
