"""What does KubeRay refuse that its schema lets through?

The rules of KubeRay v1.7.0's ``validation.go`` and of Kueue v0.19's webhook, so that a manifest
is refused where it is written and not by an event on an object that seems to be accepted. Works on
plain values, whoever wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from orchestrator.errors import Problem
from orchestrator.render.kinds import CLUSTER_FIELDS
from orchestrator.render.names import name_problems

Values = Mapping[str, Any]

FEATURE_GATES = {
    "RayClusterNetworkPolicy": "networkPolicy",
    "RayClusterMTLS": "tlsOptions",
    "RayClusterHistoryServer": "historyServerOptions",
}
"""Gates that are off by default, and the field of a cluster that each opens."""

_RAY_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_REDIS_ENV = ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "REDIS_USERNAME")
_TOKEN_VERSION = (2, 52)
_KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def rule_problems(values: Values) -> list[Problem]:
    """Why KubeRay would refuse the object; nothing for objects of other kinds."""
    kind = values.get("kind", "")
    if kind not in CLUSTER_FIELDS:
        return []
    field = CLUSTER_FIELDS[kind]
    spec = values.get("spec", {})
    cluster = spec.get(field, {}) if field else spec
    where = f"spec.{field}" if field else "spec"
    found = name_problems(values["metadata"]["name"], kind, "metadata.name")
    found += _cluster(cluster, where)
    if kind == "RayJob":
        found += _of("spec", spec, _JOB_RULES)
    if kind == "RayService" and cluster.get("headGroupSpec", {}).get("headService", {}).get(
        "metadata", {}
    ).get("name"):
        found.append(Problem(f"{where}.headGroupSpec.headService", "must not be given a name"))
    return found + _kueue(values, spec, cluster, where)


def _cluster(cluster: Values, where: str) -> list[Problem]:
    head = cluster.get("headGroupSpec", {})
    found = list(_group(head, f"{where}.headGroupSpec", "the head"))
    for index, group in enumerate(cluster.get("workerGroupSpecs", [])):
        place = f"{where}.workerGroupSpecs[{index}]"
        found += _group(group, place, f"group {group.get('groupName')}")
        found += _replicas(cluster, group, place)
    return found + _of(where, cluster, _CLUSTER_RULES)


def _group(group: Values, where: str, name: str) -> Iterator[Problem]:
    parameters = group.get("rayStartParams", {})
    if not _containers(group):
        yield Problem(f"{where}.template", f"{name} has no container")
    if group.get("resources") and any(parameters.get(key) for key in _RAY_RESOURCES):
        what = f"{name} says its resources twice: in rayStartParams and in resources"
        yield Problem(where, what, works="one of the two")
    if "labels" in parameters:
        yield Problem(f"{where}.rayStartParams", "takes no labels", works=f"{where}.labels")
    for key, value in group.get("labels", {}).items():
        why = label_problem(key, value)
        if why:
            yield Problem(f"{where}.labels", f"{key}: {value} is no label in Kubernetes", why)


def label_problem(key: str, value: str) -> str:
    """Why Kubernetes takes no such label; empty if it does."""
    prefix, _, name = key.rpartition("/")
    if prefix and (len(prefix) > 253 or not _DOMAIN.fullmatch(prefix)):
        return f"{prefix} is no DNS name"
    if len(name) > 63 or not _NAME.fullmatch(name):
        return f"{name} is no name of at most 63 letters, digits, dashes, dots and underscores"
    if value and (len(value) > 63 or not _NAME.fullmatch(value)):
        return f"{value} is no value of at most 63 letters, digits, dashes, dots and underscores"
    return ""


def _replicas(cluster: Values, group: Values, where: str) -> Iterator[Problem]:
    low, high = group.get("minReplicas"), group.get("maxReplicas")
    autoscaled = cluster.get("enableInTreeAutoscaling", False)
    if not autoscaled and (low is None or high is None):
        what = "minReplicas and maxReplicas are both needed without an autoscaler"
        yield Problem(where, what)
    for name, number in (("minReplicas", low), ("maxReplicas", high)):
        if number is not None and number < 0:
            yield Problem(f"{where}.{name}", "is negative", str(number))
    if low is not None and high is not None and low > high:
        yield Problem(where, "minReplicas is above maxReplicas", f"{low} > {high}")
    if group.get("suspend") and autoscaled:
        yield Problem(f"{where}.suspend", "cannot be used with an autoscaler")
    v2 = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for name in ("idleTimeoutSeconds", "priority"):
        if group.get(name) and not (autoscaled and v2):
            yield Problem(f"{where}.{name}", "needs autoscalerOptions.version: v2")
    restart = group.get("template", {}).get("spec", {}).get("restartPolicy")
    if autoscaled and v2 and restart not in (None, "", "Never"):
        yield Problem(f"{where}.template.spec.restartPolicy", "must be Never with autoscaler v2")


def _gcs(cluster: Values) -> Iterator[tuple[str, str]]:
    options = cluster.get("gcsFaultToleranceOptions")
    head = cluster.get("headGroupSpec", {})
    env = _env_names(head)
    parameters = head.get("rayStartParams", {})
    if options is None:
        if "RAY_REDIS_ADDRESS" in env:
            yield "headGroupSpec", "RAY_REDIS_ADDRESS needs gcsFaultToleranceOptions"
        return
    for name in sorted(env.intersection(_REDIS_ENV)):
        yield "headGroupSpec", f"{name} is set by hand: gcsFaultToleranceOptions sets it"
    for name in ("redis-password", "redis-username"):
        if parameters.get(name):
            yield "headGroupSpec.rayStartParams", f"{name} belongs in gcsFaultToleranceOptions"
    if options.get("backend", "redis") == "redis":
        if "storage" in options:
            yield "gcsFaultToleranceOptions.storage", "is only for the backend rocksdb"
        return
    for name in ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace"):
        if options.get(name):
            yield f"gcsFaultToleranceOptions.{name}", "is only for the backend redis"
    storage = options.get("storage", {})
    if storage.get("claimName") and set(storage) & {"size", "storageClassName", "accessModes"}:
        yield "gcsFaultToleranceOptions.storage", "has a claimName, so nothing else is asked for"
    for name in sorted(env & {"RAY_gcs_storage", "RAY_gcs_storage_path"}):
        yield "headGroupSpec", f"{name} is set by KubeRay"


def _token(cluster: Values) -> Iterator[tuple[str, str]]:
    options = cluster.get("authOptions", {})
    if options.get("mode") != "token":
        if options.get("enableK8sTokenAuth"):
            yield "authOptions", "enableK8sTokenAuth needs mode: token"
        return
    parts = re.match(r"(\d+)\.(\d+)", cluster.get("rayVersion", ""))
    if not parts or tuple(map(int, parts.groups())) < _TOKEN_VERSION:
        yield "rayVersion", "tokens need a rayVersion of 2.52 or later"


def _autoscaler(cluster: Values) -> Iterator[tuple[str, str]]:
    options = cluster.get("autoscalerOptions", {})
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds", "is negative"
    if any(
        each.get("name") == "KUBERAY_GEN_AUTOSCALER_START_CMD" for each in options.get("env", [])
    ):
        yield "autoscalerOptions.env", "KUBERAY_GEN_AUTOSCALER_START_CMD is set by KubeRay"
    env = _env_names(cluster.get("headGroupSpec", {}))
    if "RAY_enable_autoscaler_v2" in env and options.get("version"):
        yield "autoscalerOptions.version", "is said twice: RAY_enable_autoscaler_v2 is set too"


def _restart(cluster: Values) -> Iterator[tuple[str, str]]:
    head = cluster.get("headGroupSpec", {}).get("template", {}).get("spec", {})
    v2 = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    scaled = cluster.get("enableInTreeAutoscaling") and v2
    if scaled and head.get("restartPolicy") not in (None, "", "Never"):
        yield "headGroupSpec.template.spec.restartPolicy", "must be Never with autoscaler v2"


def _job_cluster(spec: Values) -> Iterator[tuple[str, str]]:
    selected = spec.get("clusterSelector")
    if not selected and not spec.get("rayClusterSpec"):
        yield "rayClusterSpec", "is missing, and there is no clusterSelector"
    if selected and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit", "excludes clusterSelector: a retry is a new cluster"
    if selected and spec.get("suspend"):
        yield "suspend", "excludes clusterSelector"
    if spec.get("rayClusterSpec", {}).get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "rayClusterSpec.authOptions", "enableK8sTokenAuth is not for RayJobs"


def _job_end(spec: Values) -> Iterator[tuple[str, str]]:
    shut_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shut_down:
        yield "suspend", "needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shut_down:
        yield "ttlSecondsAfterFinished", "needs shutdownAfterJobFinishes"
    if spec.get("deletionStrategy", {}).get("deletionRules") and shut_down:
        yield "deletionStrategy", "deletionRules exclude shutdownAfterJobFinishes"
    for name in ("backoffLimit", "ttlSecondsAfterFinished"):
        if spec.get(name, 0) < 0:
            yield name, "is negative"
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(name, 1) <= 0:
            yield name, "must be positive"


def _job_submission(spec: Values) -> Iterator[tuple[str, str]]:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(name):
                yield name, "is not for SidecarMode"
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit", "is not for InteractiveMode"
    try:
        environment = yaml.safe_load(spec.get("runtimeEnvYAML", "")) or {}
    except yaml.YAMLError:
        environment = None
    if not isinstance(environment, dict):
        yield "runtimeEnvYAML", "is not a mapping in YAML"


_Rule = Callable[[Values], Iterator[tuple[str, str]]]
_CLUSTER_RULES: tuple[_Rule, ...] = (_gcs, _token, _autoscaler, _restart)
_JOB_RULES: tuple[_Rule, ...] = (_job_cluster, _job_end, _job_submission)


def _of(where: str, values: Values, rules: tuple[_Rule, ...]) -> list[Problem]:
    return [Problem(f"{where}.{field}", what) for rule in rules for field, what in rule(values)]


def _kueue(values: Values, spec: Values, cluster: Values, where: str) -> list[Problem]:
    if _KUEUE_QUEUE not in values["metadata"].get("labels", {}):
        return []
    found = []
    if cluster.get("enableInTreeAutoscaling"):
        what = "is not for what Kueue admits: it admits a fixed number of pods"
        found.append(Problem(f"{where}.enableInTreeAutoscaling", what))
    if values["kind"] == "RayJob" and not spec.get("shutdownAfterJobFinishes"):
        what = "is needed: what Kueue admits must give its quota back"
        found.append(Problem("spec.shutdownAfterJobFinishes", what))
    return found


def _containers(group: Values) -> list[Values]:
    found: list[Values] = group.get("template", {}).get("spec", {}).get("containers", [])
    return found


def _env_names(group: Values) -> set[str]:
    first = _containers(group)[:1]
    return {each.get("name", "") for container in first for each in container.get("env", [])}
