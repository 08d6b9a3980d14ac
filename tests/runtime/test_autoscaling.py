"""An elastic run tells the cluster's autoscaler what it could still use, and takes it back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.axis_command import ROOT, Axis

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SCRIPT = """
import json, sys
from orchestrator.plan.load import load_plan
from orchestrator.runtime.cluster import prepare
prepare()
import ray
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray._raylet import GcsClient

context = ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
from orchestrator.runtime.autoscaling import room_asked_for

def wished():
    client = GcsClient(address=context.address_info["gcs_address"])
    state = get_cluster_resource_state(client)
    return [
        {
            "count": request.count,
            "resources": dict(request.request.resources_bundle),
            "labels": [
                [c.label_key, list(c.label_values)]
                for s in request.request.label_selectors
                for c in s.label_constraints
            ],
        }
        for constraint in state.cluster_resource_constraints
        for request in constraint.resource_requests
    ]

plan = load_plan("configs/digits.yaml", sys.argv[2:]).plan
found = {}
with room_asked_for(plan, private=sys.argv[1] == "private"):
    found["inside"] = wished()
found["after"] = wished()
print(json.dumps(found))
"""


def wishes(axis: Axis, where: str, *overrides: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, where, "inference=null", *overrides],
        cwd=ROOT,
        env={**axis.environment, "RAY_enable_autoscaler_v2": "1"},  # as KubeRay sets it
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_elastic_run_asks_for_its_largest_gang(axis: Axis) -> None:
    labels = "{cpu: 1, label_selector: {zone: a}}"
    found = wishes(
        axis, "shared", "training.workers=[1,4]", f"training.resources={labels}", "data.tasks=1"
    )
    asked = {(tuple(w["resources"].items()), str(w["labels"])): w["count"] for w in found["inside"]}
    assert asked == {
        ((("CPU", 1.0),), "[['zone', ['a']]]"): 4,
        ((("CPU", 0.5),), "[]"): 1,
    }
    assert found["after"] == []


def test_nobody_else_asks(axis: Axis) -> None:
    assert wishes(axis, "shared", "training.workers=2")["inside"] == []
    assert wishes(axis, "private", "training.workers=[1,4]")["inside"] == []
