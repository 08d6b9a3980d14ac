"""What does the Ray cluster of a plan look like to KubeRay? The spec that all three kinds share."""

from __future__ import annotations

from typing import Any

from orchestrator.render import names as at
from orchestrator.render.nodes import ray_labels
from orchestrator.render.pods import (
    CONTAINER_SECURITY,
    Setting,
    head_template,
    worker_template,
)
from orchestrator.render.sizing import Group
from orchestrator.render.yaml_text import Node, Note

RAY_VERSION = "2.60.0"
"""The Ray of the image; KubeRay decides by it what the cluster can do."""


def cluster_spec(setting: Setting) -> dict[str, Node]:
    """A ``RayClusterSpec``."""
    return {
        "rayVersion": Note(RAY_VERSION, "What the image holds; pinned in deploy/Dockerfile."),
        "authOptions": Note(
            {"mode": "token"},
            "Every port of Ray asks for a token. KubeRay makes one for each cluster, in a Secret "
            "of the cluster's name (key auth_token).",
        ),
        **_tls(setting),
        **_gcs(setting),
        **_autoscaler(setting),
        "headGroupSpec": _head(setting),
        "workerGroupSpecs": [_workers(setting, group) for group in setting.sized.groups],
    }


def gcs_backend(setting: Setting) -> str:
    """Where the head's state is kept: none, redis or rocksdb."""
    asked = setting.profile.gcs
    if asked != "auto":
        return asked
    return "none" if setting.kind == "job" else "redis"


def redis_secret(setting: Setting) -> tuple[str, str]:
    """The Secret and key of Redis's password."""
    secret = setting.profile.redis_secret
    return (secret.name, secret.key) if secret else (setting.names.redis, "password")


def renders_redis(setting: Setting) -> bool:
    """Whether a Redis of our own is needed."""
    return gcs_backend(setting) == "redis" and not setting.profile.redis_address


def _tls(setting: Setting) -> dict[str, Node]:
    if not setting.profile.tls:
        return {}
    return {
        "tlsOptions": Note(
            {"enabled": True},
            "Certificates from cert-manager; KubeRay needs the feature gate RayClusterMTLS.",
        )
    }


def _gcs(setting: Setting) -> dict[str, Node]:
    backend = gcs_backend(setting)
    if backend == "none":
        return {}
    if backend == "rocksdb":
        volume = setting.profile.volume
        storage: dict[str, Any] = {"size": "1Gi", "deletionPolicy": "DeleteWithCluster"}
        if volume.storage_class:
            storage["storageClassName"] = volume.storage_class
        options: dict[str, Node] = {"backend": "rocksdb", "storage": storage}
        why = "A restarted head finds its actors again. Feature gate GCSFaultToleranceEmbedded"
        return {"gcsFaultToleranceOptions": Note(options, f"{why}Storage of KubeRay.")}
    name, key = redis_secret(setting)
    address = setting.profile.redis_address or f"{setting.names.redis}:{at.GCS_PORT}"
    return {
        "gcsFaultToleranceOptions": Note(
            {
                "backend": "redis",
                "redisAddress": address,
                "redisPassword": {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}},
            },
            "A restarted head finds its actors again; meanwhile replicas go on answering.",
        )
    }


def _autoscaler(setting: Setting) -> dict[str, Node]:
    if not setting.autoscaled:
        return {}
    return {
        "enableInTreeAutoscaling": Note(
            True, "Pods between minReplicas and maxReplicas come and go with what the plan asks."
        ),
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": int(setting.profile.idle_timeout),
            "upscalingMode": "Default",
            "resources": {
                "requests": {"cpu": "200m", "memory": "512Mi"},
                "limits": {"memory": "1Gi"},
            },
            "securityContext": dict(CONTAINER_SECURITY),
            "env": [{"name": "HOME", "value": "/tmp"}],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        },
    }


def _head(setting: Setting) -> dict[str, Node]:
    return {
        "rayStartParams": {
            "num-cpus": Note(
                "0", "Outside of the gang: no worker, data task or replica ever runs here."
            ),
            "dashboard-host": "0.0.0.0",
            "object-store-memory": _object_store(setting),
        },
        "template": head_template(setting),
    }


def _workers(setting: Setting, group: Group) -> dict[str, Node]:
    members = _members(group)
    low, high = group.min_pods, group.max_pods
    if not setting.autoscaled:
        low = high  # nobody else would start the others
    found: dict[str, Node] = {
        "groupName": Note(group.name, members),
        "replicas": low,
        "minReplicas": low,
        "maxReplicas": high,
        "rayStartParams": {"object-store-memory": _object_store(setting)},
        "resources": Note(
            {name: str(amount) for name, amount in group.offered.items()},
            "What Ray hands out; the pod below requests as much.",
        ),
    }
    labels = ray_labels(group.selector)
    if labels:
        found["labels"] = Note(labels, "What the plan's label_selector looks for.")
    return {**found, "template": worker_template(setting, group)}


def _members(group: Group) -> str:
    who = " and ".join(group.axes) if len(group.axes) < 3 else "training, data and inference"
    share = f"{group.per_pod} of them in a pod" if group.per_pod > 1 else "one in a pod"
    turns = "; the axes take turns in them" if len(group.axes) > 1 else ""
    return f"Bundles of {who}, {share}{turns}."


def _object_store(setting: Setting) -> str:
    return str(setting.profile.shared_memory // 2)
