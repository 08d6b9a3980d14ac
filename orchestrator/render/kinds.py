"""What is handed to KubeRay: a RayJob, a RayService or a RayCluster for a plan."""

from __future__ import annotations

import shlex
from typing import Any

from orchestrator.plan.quantities import format_duration
from orchestrator.render import names as at
from orchestrator.render.cluster import cluster_spec
from orchestrator.render.pods import Setting, submitter_template
from orchestrator.render.yaml_text import Node, Note, document

API_VERSION = "ray.io/v1"
KINDS = {"job": "RayJob", "service": "RayService", "cluster": "RayCluster"}
CLUSTER_FIELDS = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig", "RayCluster": ""}
"""Where each kind holds the cluster's spec."""

BUILDER = "orchestrator.runtime.service:application"
"""Builds the Serve application of a run's promoted checkpoint."""


def main_object(setting: Setting) -> dict[str, Node]:
    """The object of the wanted kind."""
    if setting.kind == "job":
        return _ray_job(setting)
    if setting.kind == "service":
        return _ray_service(setting)
    return _object(setting, cluster_spec(setting))


def entrypoint(setting: Setting) -> str:
    """The command that carries the plan out on the cluster."""
    words = ["axis", "run", at.PLAN_PATH]
    if setting.place.claim:
        words.append(f"storage={setting.place.storage}")
    return shlex.join(words)


def _ray_job(setting: Setting) -> dict[str, Node]:
    profile = setting.profile
    spec: dict[str, Node] = {
        "entrypoint": Note(
            entrypoint(setting), "The same command as anywhere; RAY_ADDRESS is set for it."
        )
    }
    if profile.working_dir:
        spec["runtimeEnvYAML"] = f"working_dir: {profile.working_dir}\n"
    spec |= {
        "backoffLimit": Note(
            profile.retries,
            "Each retry is a new cluster. The run goes on from its last checkpoint as the next "
            "attempt, and what is left of the attempt before is fenced.",
        ),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": int(profile.keep_finished),
        "preRunningDeadlineSeconds": Note(
            int(profile.start_deadline),
            "Pods that are not there by then (no such nodes, no such image) fail the job; nothing "
            "hangs.",
        ),
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": 2},
        "submitterPodTemplate": submitter_template(setting),
        "rayClusterSpec": cluster_spec(setting),
    }
    return _object(setting, spec)


def _ray_service(setting: Setting) -> dict[str, Node]:
    spec: dict[str, Node] = {
        "serveConfigV2": Note(
            document(serve_config(setting)), "Serves the checkpoint that the run promoted."
        ),
        "excludeHeadPodFromServeSvc": Note(
            True, "The head has no replicas; losing it must not lose requests."
        ),
        "serviceUnhealthySecondThreshold": int(setting.profile.start_deadline),
        "deploymentUnhealthySecondThreshold": 300,
        "upgradeStrategy": Note(
            {"type": "NewCluster"},
            "A change is rolled out on a new cluster; the old one answers until that is ready.",
        ),
        "rayClusterConfig": cluster_spec(setting),
    }
    return _object(setting, spec)


def serve_config(setting: Setting) -> dict[str, Any]:
    """Serve's own configuration: proxies, which answer ``/-/healthz``, and the application."""
    plan, inference = setting.plan, setting.plan.inference
    timeout = inference.timeout if inference else 120.0
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": "0.0.0.0",
            "port": at.SERVE_PORT,
            "request_timeout_s": timeout,
        },
        "applications": [
            {
                "name": plan.name,
                "route_prefix": f"/{plan.name}",
                "import_path": BUILDER,
                "args": {"plan": at.PLAN_PATH, "storage": setting.place.storage},
            }
        ],
    }


def heading(setting: Setting, command: str) -> str:
    """What stands above the main object."""
    plan, sized, kind = setting.plan, setting.sized, KINDS[setting.kind]
    span = f"{sized.fewest} to {sized.most}" if sized.fewest != sized.most else f"{sized.most}"
    what = {
        "job": f"carries out the plan {plan.name} with {span} workers, and ends",
        "service": f"serves the checkpoint that the run {plan.name} promoted",
        "cluster": f"a cluster that holds the plan {plan.name} with {span} workers, until deleted",
    }[setting.kind]
    gang = format_duration(plan.coordination.gang.timeout)
    lines = [f"{kind}: {what}.", f"Rendered by `{command}`; change the plan and render again."]
    if setting.kind == "job":
        lines.append(f"Pods first, then the gang: all of it or none, within {gang}.")
    return "\n".join(lines)


def _object(setting: Setting, spec: dict[str, Node]) -> dict[str, Node]:
    metadata: dict[str, Node] = {"name": setting.names.run}
    if setting.profile.namespace:
        metadata["namespace"] = setting.profile.namespace
    metadata["labels"] = {**setting.names.labels(), **_queue_labels(setting)}
    return {
        "apiVersion": API_VERSION,
        "kind": KINDS[setting.kind],
        "metadata": metadata,
        "spec": spec,
    }


def _queue_labels(setting: Setting) -> dict[str, Node]:
    """Labels by which Kueue or Volcano admit all pods or none."""
    profile = setting.profile
    if not profile.queue:
        return {}
    if profile.queue_kind == "kueue":
        names = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
        why = "Kueue starts all pods of the gang or none; of a fixed number, so no autoscaler."
    else:
        names = ("volcano.sh/queue-name", "ray.io/priority-class-name")
        why = (
            "Volcano starts head and fewest workers or nothing (operator: batchScheduler volcano)."
        )
    found: dict[str, Node] = {names[0]: Note(profile.queue, why)}
    if profile.priority_class:
        found[names[1]] = profile.priority_class
    return found
