"""What does each pod of a Ray cluster look like?

Non-root, with a root file system that nobody writes to: Ray gets /tmp, /dev/shm and a home of its
own. Secrets are named, never written out. Pure; which pods there are is decided in ``sizing``.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import format_duration
from orchestrator.render import names as at
from orchestrator.render.names import Names
from orchestrator.render.nodes import head_placement, placement, tolerations
from orchestrator.render.profile import DEFAULT_IMAGE, Profile
from orchestrator.render.references import secret_names
from orchestrator.render.sizing import Group, Kind, Sized
from orchestrator.render.storage import Place
from orchestrator.render.yaml_text import Node, Note

GRACE_MARGIN_SECONDS = 30
"""What Kubernetes leaves a pod beyond the checkpoint: noticing, draining, ending Ray."""
_USER = 1000

POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Setting:
    """All that decides what pods look like."""

    plan: Plan
    profile: Profile
    kind: Kind
    names: Names
    place: Place
    sized: Sized

    @property
    def image(self) -> str:
        """The image of all pods of Ray."""
        gpus = any(group.gpus for group in self.sized.groups)
        return self.profile.image or (f"{DEFAULT_IMAGE}-cuda" if gpus else DEFAULT_IMAGE)

    @property
    def autoscaled(self) -> bool:
        """Whether KubeRay's autoscaler may start and end pods. Kueue admits a fixed size."""
        kueue = bool(self.profile.queue) and self.profile.queue_kind == "kueue"
        return self.profile.autoscaling and self.sized.elastic and not kueue

    @property
    def checkpoint_seconds(self) -> int:
        """How long a pod that must go may take: a last checkpoint, or the requests it holds."""
        if self.kind == "service":
            return math.ceil(self.plan.inference.timeout if self.plan.inference else 30)
        return math.ceil(self.plan.coordination.stop_timeout)

    @property
    def grace_seconds(self) -> int:
        """``terminationGracePeriodSeconds``: longer than the checkpoint."""
        return self.checkpoint_seconds + GRACE_MARGIN_SECONDS


def head_template(setting: Setting) -> dict[str, Node]:
    """The head pod: GCS, dashboard, driver, coordinator, and nothing of the gang."""
    profile = setting.profile
    container = _container(setting, "ray-head", profile.head_cpu, profile.head_memory, {})
    container["env"] = _env(setting, _head_env(setting))
    container["ports"] = [
        {"name": "gcs-server", "containerPort": at.GCS_PORT},
        {"name": "dashboard", "containerPort": at.DASHBOARD_PORT},
        {"name": "metrics", "containerPort": at.METRICS_PORT},
        *_serve_port(setting),
    ]
    if setting.kind == "job":
        container["lifecycle"] = Note(
            _before_stop(stop_command(setting)),
            "A last checkpoint while the cluster is still whole; the next attempt goes on from it.",
        )
    token = setting.autoscaled
    why = "The autoscaler asks the Kubernetes API." if token else "Nothing asks the Kubernetes API."
    spec = {
        "serviceAccountName": setting.names.run,
        "automountServiceAccountToken": Note(token, why),
        **_spec(setting, container),
        **head_placement(),
    }
    return {"metadata": _metadata(setting, "head"), "spec": spec}


def worker_template(setting: Setting, group: Group) -> dict[str, Node]:
    """A pod that holds bundles of the gang."""
    devices = _devices(setting, group)
    container = _container(setting, "ray-worker", group.cpus, group.memory_bytes, devices)
    container["env"] = _env(setting, _worker_env(setting))
    container["ports"] = [
        {"name": "metrics", "containerPort": at.METRICS_PORT},
        *_serve_port(setting),
    ]
    spec: dict[str, Node] = {
        "serviceAccountName": setting.names.run,
        "automountServiceAccountToken": False,
        **_spec(setting, container),
        **placement(group.selector, setting.profile),
    }
    near = _near(setting, group)
    if near:
        spec["affinity"] = {**spec.get("affinity", {}), **near}
    taints = tolerations(setting.profile, group.gpus)
    if taints:
        spec["tolerations"] = taints
    if setting.kind == "service":
        spec["topologySpreadConstraints"] = Note(
            [_spread(setting, group.name)],
            "Replicas on different nodes, so that no node takes all with it.",
        )
    return {"metadata": _metadata(setting, group.name), "spec": spec}


def submitter_template(setting: Setting) -> dict[str, Node]:
    """The pod that hands the job to the head and follows its log."""
    container = {
        "name": "ray-job-submitter",
        "image": setting.image,
        "imagePullPolicy": setting.profile.pull_policy,
        "env": _base_env(),
        "resources": {
            "requests": {"cpu": "200m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [_mount("tmp", "/tmp"), _mount("home", "/home/axis")],
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "home", "emptyDir": {}}]
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": dict(POD_SECURITY),
        **_pull_secrets(setting.profile),
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {"labels": setting.names.labels("submitter")}, "spec": spec}


def stop_command(setting: Setting) -> str:
    """What the head runs before it ends: the run stops with a checkpoint."""
    wait = format_duration(float(setting.checkpoint_seconds))
    words = ["axis", "stop", setting.plan.name, "--storage", setting.place.storage]
    return shlex.join([*words, "--timeout", wait])


def _spec(setting: Setting, container: dict[str, Node]) -> dict[str, Node]:
    profile = setting.profile
    what = "the requests it holds" if setting.kind == "service" else "the last checkpoint"
    grace = Note(
        setting.grace_seconds,
        f"{setting.checkpoint_seconds} s for {what}, {GRACE_MARGIN_SECONDS} s to notice and to end",
    )
    shm = Note(
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size(profile.shared_memory)}},
        "Ray's object store and exchange between processes; counts as memory of the pod.",
    )
    volumes: list[Node] = [
        Note(
            {"name": "tmp", "emptyDir": {"sizeLimit": size(profile.scratch)}},
            "The root file system is read-only: Ray's sessions, logs and spilled objects go here.",
        ),
        shm,
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "plan", "configMap": {"name": setting.names.plan}},
    ]
    if setting.place.claim:
        volumes.append(
            {"name": "runs", "persistentVolumeClaim": {"claimName": setting.place.claim}}
        )
    return {
        "securityContext": dict(POD_SECURITY),
        "terminationGracePeriodSeconds": grace,
        **_pull_secrets(profile),
        "containers": [container],
        "volumes": volumes,
    }


def _container(
    setting: Setting, name: str, cpus: float, memory_bytes: int, devices: dict[str, int]
) -> dict[str, Node]:
    requests: dict[str, Any] = {"cpu": cpu(cpus), "memory": size(memory_bytes), **devices}
    limits: dict[str, Any] = {"memory": size(memory_bytes), **devices}
    mounts = [
        _mount("tmp", "/tmp"),
        _mount("shm", "/dev/shm"),
        _mount("home", "/home/axis"),
        {**_mount("plan", at.PLAN_PATH.rpartition("/")[0]), "readOnly": True},
    ]
    if setting.place.claim:
        mounts.append(_mount("runs", at.VOLUME_PATH))
    return {
        "name": name,
        "image": setting.image,
        "imagePullPolicy": setting.profile.pull_policy,
        "workingDir": at.WORK_DIRECTORY,
        "env": [],
        "resources": Note(
            {"requests": requests, "limits": limits},
            "No limit of CPU: a throttled worker would hold up all others.",
        ),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": mounts,
    }


def _devices(setting: Setting, group: Group) -> dict[str, int]:
    """What device plugins hand out, by Kubernetes' names."""
    names = {"GPU": setting.profile.gpu_resource, **setting.profile.device_resources}
    return {names[name]: amount for name, amount in group.offered.items() if name in names}


def _head_env(setting: Setting) -> list[Node]:
    return [
        Note(
            {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(setting.checkpoint_seconds)},
            "Ray gives a stopped job 3 s otherwise, too short for a checkpoint.",
        )
    ]


def _worker_env(setting: Setting) -> list[Node]:
    leaving = (
        "replicas finish their requests"
        if setting.kind == "service"
        else "workers take a checkpoint"
    )
    seconds = str(setting.checkpoint_seconds)
    return [
        Note(
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": seconds},
            f"A pod that is ended drains its node first: {leaving}, and then the pod is gone.",
        )
    ]


def _env(setting: Setting, own: list[Node]) -> list[Node]:
    profile = setting.profile
    found: list[Node] = [*_base_env(), *own]
    found += [{"name": name, "value": value} for name, value in sorted(profile.env.items())]
    secret = profile.secret or setting.names.secrets
    for name in secret_names(setting.plan):
        found.append(_from_secret(name, secret, name))
    for name, each in sorted(profile.env_secrets.items()):
        found.append(_from_secret(name, each.name, each.key))
    return found


def _base_env() -> list[Node]:
    return [
        {"name": "HOME", "value": "/home/axis"},
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
    ]


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _metadata(setting: Setting, component: str) -> dict[str, Node]:
    found: dict[str, Node] = {"labels": setting.names.labels(component)}
    if setting.kind == "job":
        found["annotations"] = Note(
            {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
            "Nodes are not taken from under a gang to save money: it would lose steps.",
        )
    return found


def _near(setting: Setting, group: Group) -> dict[str, Node]:
    """Pods of a gang near one another, by the plan's topology, the nearest first."""
    labels = setting.plan.coordination.gang.topology
    if not labels or "training" not in group.axes:
        return {}
    selector = {"matchLabels": setting.names.labels(group.name)}
    terms = [
        {
            "weight": max(1, 100 >> step),
            "podAffinityTerm": {
                "topologyKey": setting.profile.label_map.get(label, label),
                "labelSelector": selector,
            },
        }
        for step, label in enumerate(labels)
    ]
    rule = {"preferredDuringSchedulingIgnoredDuringExecution": terms}
    return {"podAffinity": Note(rule, "The plan's topology, from near to far.")}


def _spread(setting: Setting, component: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": setting.names.labels(component)},
    }


def _serve_port(setting: Setting) -> list[dict[str, Any]]:
    if setting.kind == "job":
        return []
    return [{"name": "serve", "containerPort": at.SERVE_PORT}]


def _before_stop(command: str) -> dict[str, Any]:
    return {"preStop": {"exec": {"command": ["bash", "-c", command]}}}


def _pull_secrets(profile: Profile) -> dict[str, Any]:
    secret = profile.pull_secret
    return {"imagePullSecrets": [{"name": secret}]} if secret else {}


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path}


def size(size_bytes: int) -> str:
    """Bytes as Kubernetes writes them: ``4Gi``, ``512Mi``."""
    for unit, factor in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def cpu(cpus: float) -> str:
    """CPUs as Kubernetes writes them: ``2``, ``500m``."""
    return str(int(cpus)) if cpus == int(cpus) else f"{math.ceil(cpus * 1000)}m"
