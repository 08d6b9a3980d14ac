"""Where is the state of a head kept that must outlive it? A small Redis of the plan's own."""

from __future__ import annotations

from typing import Any

from orchestrator.render.cluster import redis_secret
from orchestrator.render.names import GCS_PORT
from orchestrator.render.pods import CONTAINER_SECURITY, POD_SECURITY, Setting
from orchestrator.render.yaml_text import Node, Note

_REDIS_USER = 999
_COMMAND = (
    f'exec redis-server --port {GCS_PORT} --requirepass "$REDIS_PASSWORD" '
    "--dir /data --appendonly yes --appendfsync everysec"
)


def redis_objects(setting: Setting) -> list[dict[str, Node]]:
    """A Service, a volume and a Deployment of one pod."""
    name = setting.names.redis
    labels = setting.names.labels("redis")
    metadata = {"name": name, "labels": labels}
    ports = [{"name": "redis", "port": GCS_PORT, "targetPort": "redis"}]
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    deployment = {
        "replicas": 1,
        "strategy": Note({"type": "Recreate"}, "Its volume is for one pod at a time."),
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _pod(setting)},
    }
    return [
        _object("v1", "Service", metadata, {"selector": labels, "ports": ports}),
        _object("v1", "PersistentVolumeClaim", metadata, claim),
        _object("apps/v1", "Deployment", metadata, deployment),
    ]


def _object(version: str, kind: str, metadata: Node, spec: Node) -> dict[str, Node]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _pod(setting: Setting) -> dict[str, Node]:
    secret, key = redis_secret(setting)
    probe = {"tcpSocket": {"port": "redis"}, "periodSeconds": 10}
    container = {
        "name": "redis",
        "image": setting.profile.redis_image,
        "command": ["sh", "-c", _COMMAND],
        "env": [
            {
                "name": "REDIS_PASSWORD",
                "valueFrom": Note(
                    {"secretKeyRef": {"name": secret, "key": key}},
                    f"kubectl create secret generic {secret} "
                    f"--from-literal={key}=$(openssl rand -hex 32)",
                ),
            }
        ],
        "ports": [{"name": "redis", "containerPort": GCS_PORT}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    ids = {"runAsUser": _REDIS_USER, "runAsGroup": _REDIS_USER, "fsGroup": _REDIS_USER}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {**POD_SECURITY, **ids},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": setting.names.redis}}],
    }
