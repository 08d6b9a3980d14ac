"""Each rule that KubeRay and Kueue check in code: a manifest that breaks it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.render.kuberay_rules import label_problem, rule_problems

pytestmark = pytest.mark.unit

CONTAINER = {"name": "ray", "image": "axis:0.1.0", "env": []}
CLUSTER: dict[str, Any] = {
    "rayVersion": "2.60.0",
    "headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [CONTAINER]}}},
    "workerGroupSpecs": [
        {
            "groupName": "training",
            "replicas": 1,
            "minReplicas": 1,
            "maxReplicas": 1,
            "rayStartParams": {},
            "template": {"spec": {"containers": [CONTAINER]}},
        }
    ],
}
JOB: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"name": "digits"},
    "spec": {"entrypoint": "true", "shutdownAfterJobFinishes": True, "rayClusterSpec": CLUSTER},
}

Break = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes a job's spec, or its cluster's, so that a rule is broken."""


def head_env(name: str) -> Break:
    def breaks(_: dict[str, Any], cluster: dict[str, Any]) -> None:
        env = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
        env.append({"name": name, "value": "x"})

    return breaks


def spec(**fields: Any) -> Break:
    return lambda job, _: job.update(fields)


def cluster(**fields: Any) -> Break:
    return lambda _, found: found.update(fields)


def group(**fields: Any) -> Break:
    return lambda _, found: found["workerGroupSpecs"][0].update(fields)


def both(*breaks: Break) -> Break:
    def all_of(job: dict[str, Any], found: dict[str, Any]) -> None:
        for each in breaks:
            each(job, found)

    return all_of


REDIS = cluster(gcsFaultToleranceOptions={"redisAddress": "redis:6379"})
SCALED = cluster(enableInTreeAutoscaling=True, autoscalerOptions={"version": "v2"})
RULES: dict[str, tuple[Break, str]] = {
    "no fewest": (
        lambda _, c: c["workerGroupSpecs"][0].pop("minReplicas"),
        "without an autoscaler",
    ),
    "negative": (group(minReplicas=-1), "is negative"),
    "fewest above most": (group(minReplicas=2), "2 > 1"),
    "no container": (group(template={"spec": {"containers": []}}), "has no container"),
    "resources twice": (
        group(resources={"CPU": "1"}, rayStartParams={"num-cpus": "1"}),
        "resources twice",
    ),
    "labels": (group(rayStartParams={"labels": "a=b"}), "takes no labels"),
    "bad label": (group(labels={"a": "b c"}), "is no label"),
    "idle": (group(idleTimeoutSeconds=5), "autoscalerOptions.version: v2"),
    "restart": (
        both(
            SCALED, group(template={"spec": {"containers": [CONTAINER], "restartPolicy": "Always"}})
        ),
        "must be Never",
    ),
    "suspended group": (both(SCALED, group(suspend=True)), "cannot be used with an autoscaler"),
    "redis by hand": (head_env("RAY_REDIS_ADDRESS"), "needs gcsFaultToleranceOptions"),
    "redis twice": (both(REDIS, head_env("RAY_REDIS_ADDRESS")), "is set by hand"),
    "password by hand": (both(REDIS, head_env("REDIS_PASSWORD")), "is set by hand"),
    "redis with storage": (
        cluster(gcsFaultToleranceOptions={"redisAddress": "r:1", "storage": {}}),
        "only for the backend rocksdb",
    ),
    "rocksdb with redis": (
        cluster(gcsFaultToleranceOptions={"backend": "rocksdb", "redisAddress": "r:1"}),
        "only for the backend redis",
    ),
    "claim and size": (
        cluster(
            gcsFaultToleranceOptions={
                "backend": "rocksdb",
                "storage": {"claimName": "c", "size": "1Gi"},
            }
        ),
        "so nothing else is asked for",
    ),
    "token of an old Ray": (
        cluster(authOptions={"mode": "token"}, rayVersion="2.51.1"),
        "2.52 or later",
    ),
    "token without version": (
        cluster(authOptions={"mode": "token"}, rayVersion=""),
        "2.52 or later",
    ),
    "Kubernetes' tokens": (
        cluster(authOptions={"mode": "token", "enableK8sTokenAuth": True}),
        "not for RayJobs",
    ),
    "scaler command": (
        cluster(autoscalerOptions={"env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD"}]}),
        "is set by KubeRay",
    ),
    "scaler twice": (both(SCALED, head_env("RAY_enable_autoscaler_v2")), "is said twice"),
    "negative idle": (cluster(autoscalerOptions={"idleTimeoutSeconds": -1}), "is negative"),
    "no cluster": (lambda job, _: job.pop("rayClusterSpec"), "there is no clusterSelector"),
    "retry elsewhere": (
        spec(clusterSelector={"ray.io/cluster": "a"}, backoffLimit=1),
        "excludes clusterSelector",
    ),
    "suspend": (
        spec(suspend=True, shutdownAfterJobFinishes=False),
        "needs shutdownAfterJobFinishes",
    ),
    "ttl": (
        spec(ttlSecondsAfterFinished=5, shutdownAfterJobFinishes=False),
        "needs shutdownAfterJobFinishes",
    ),
    "negative retries": (spec(backoffLimit=-1), "is negative"),
    "no deadline": (spec(activeDeadlineSeconds=0), "must be positive"),
    "no start": (spec(preRunningDeadlineSeconds=0), "must be positive"),
    "sidecar": (
        spec(submissionMode="SidecarMode", submitterPodTemplate={"a": 1}),
        "not for SidecarMode",
    ),
    "interactive": (
        spec(submissionMode="InteractiveMode", backoffLimit=1),
        "not for InteractiveMode",
    ),
    "environment": (spec(runtimeEnvYAML="- a"), "is not a mapping"),
    "rules": (spec(deletionStrategy={"deletionRules": [{}]}), "exclude shutdownAfterJobFinishes"),
}


def test_a_plain_job_is_fine() -> None:
    assert rule_problems(JOB) == []


@pytest.mark.parametrize("rule", RULES)
def test_what_breaks_a_rule_is_refused(rule: str) -> None:
    breaks, expected = RULES[rule]
    job = copy.deepcopy(JOB)
    breaks(job["spec"], job["spec"]["rayClusterSpec"])
    said = "\n".join(problem.render() for problem in rule_problems(job))
    assert expected in said


def test_what_kueue_admits_has_no_autoscaler_and_gives_back() -> None:
    job = copy.deepcopy(JOB)
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "q"}
    assert rule_problems(job) == []
    job["spec"]["shutdownAfterJobFinishes"] = False
    job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] = True
    assert [problem.where for problem in rule_problems(job)] == [
        "spec.rayClusterSpec.enableInTreeAutoscaling",
        "spec.shutdownAfterJobFinishes",
    ]


def test_other_kinds_are_left_to_others() -> None:
    assert rule_problems({"kind": "ConfigMap", "metadata": {"name": "A B"}}) == []


@pytest.mark.parametrize(
    ("key", "value", "fine"),
    [
        ("a", "b", True),
        ("ray.io/x", "A_1.b", True),
        ("a", "", True),
        ("a", "x" * 63, True),
        ("a", "x" * 64, False),
        ("a", "-x", False),
        ("A.io/x", "y", False),
        ("", "y", False),
    ],
)
def test_labels_as_kubernetes_spells_them(key: str, value: str, fine: bool) -> None:
    assert (label_problem(key, value) == "") is fine
