"""Which files are a plan on Kubernetes? The whole answer of ``axis render --target kuberay``.

Joins pods, network and storage into files for ``kubectl apply -k``. What the plan or the profile
asks for and no cluster could give is refused here, before anything is written.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.dump import dump_plan
from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import format_duration
from orchestrator.plan.wording import choice
from orchestrator.render import names as at
from orchestrator.render.cluster import gcs_backend, redis_secret, renders_redis
from orchestrator.render.kinds import KINDS, heading, main_object
from orchestrator.render.kuberay_rules import rule_problems
from orchestrator.render.names import Names, name_problems
from orchestrator.render.network import disruption_budgets, policies
from orchestrator.render.pods import Setting, size
from orchestrator.render.profile import Profile
from orchestrator.render.redis import redis_objects
from orchestrator.render.references import closed, secret_names, written_out
from orchestrator.render.sizing import Kind
from orchestrator.render.sizing import size as size_plan
from orchestrator.render.storage import claim_object, local_source, place_of
from orchestrator.render.yaml_text import Node, Note, document, documents, plain

KUSTOMIZATION = "kustomization.yaml"


@dataclass(frozen=True)
class Rendered:
    """The objects of a plan by the file that holds them, and what is to be said about them."""

    setting: Setting
    objects: Mapping[str, tuple[Node, ...]]
    """Each file's objects, in the order in which they are applied."""
    warnings: tuple[str, ...]
    command: str

    @property
    def main(self) -> str:
        """The file of the RayJob, RayService or RayCluster."""
        return f"{KINDS[self.setting.kind].lower()}.yaml"

    def texts(self) -> dict[str, str]:
        """The files, ``kustomization.yaml`` among them."""
        found = {name: documents(self._documents(name)) for name in self.objects}
        return {KUSTOMIZATION: _kustomization(self), **found}

    def stream(self) -> str:
        """All objects as one stream, for ``kubectl apply -f -``."""
        return documents([text for name in self.objects for text in self._documents(name)])

    def _documents(self, name: str) -> list[str]:
        told = heading(self.setting, self.command) if name == self.main else ""
        return [document(each, told) for each in self.objects[name]]


def render(plan: Plan, profile: Profile, kind: Kind, command: str = "axis render") -> Rendered:
    """The objects for ``plan``. ``command`` is what is named above them.

    Raises ``PlanError`` with everything that no cluster of this profile can hold.
    """
    problems = [*name_problems(plan.name, KINDS[kind]), *written_out(plan), *_on_the_head(plan)]
    problems += _quoted(plan, profile) if kind == "job" else []
    if kind == "service" and plan.inference is None:
        what = "is missing, and a service serves nothing else"
        problems.append(Problem("inference", what, works="inference: {}, or --kind job"))
    if problems:
        raise PlanError(problems, "plan")
    # Other pods reach what is served, so it asks for a token unless the plan names one already.
    plan = closed(plan)
    names = Names(plan.name, kind)
    place = place_of(plan, profile, names)
    setting = Setting(plan, profile, kind, names, place, size_plan(plan, profile, kind))
    objects = _objects(setting)
    found = [
        problem for each in objects.values() for o in each for problem in rule_problems(plain(o))
    ]
    if found:
        raise PlanError(found, "manifest")
    return Rendered(setting, objects, tuple(_warnings(setting)), command)


def _on_the_head(plan: Plan) -> list[Problem]:
    """The head offers no CPU, GPU or custom resource, but it has memory, as Ray counts it."""
    asked = {"training": plan.training.resources, "data": plan.data.resources}
    if plan.inference is not None:
        asked["inference"] = plan.inference.resources
    return [
        Problem(
            f"{axis}.resources.cpu",
            "what needs nothing but memory could not be kept off the head, which holds the driver",
            works="cpu: 0.1",
        )
        for axis, resources in asked.items()
        if set(resources.as_ray()) == {"memory"}
    ]


def _quoted(plan: Plan, profile: Profile) -> list[Problem]:
    """KubeRay takes a RayJob's entrypoint apart by the shell's rules and joins it without them."""
    place = place_of(plan, profile, Names(plan.name, "job"))
    if not place.claim or shlex.quote(place.storage) == place.storage:
        return []
    what = f"{plan.storage} has characters that a RayJob's entrypoint loses the quotes of"
    works = "a folder of letters, digits and _@%+=:,./- such as /mnt/shared/runs"
    return [Problem("storage", what, works=works)]


def _objects(setting: Setting) -> dict[str, tuple[Node, ...]]:
    found: dict[str, list[Node]] = {"plan.yaml": [_plan_object(setting), _account(setting)]}
    if setting.place.rendered:
        claim = size(setting.profile.volume.size)
        found["storage.yaml"] = [claim_object(setting.place, setting.profile, setting.names, claim)]
    found["network.yaml"] = list(policies(setting))
    if renders_redis(setting):
        found["redis.yaml"] = list(redis_objects(setting))
    budgets = disruption_budgets(setting)
    if budgets:
        found["disruption.yaml"] = list(budgets)
    found[f"{KINDS[setting.kind].lower()}.yaml"] = [main_object(setting)]
    namespace = setting.profile.namespace
    return {name: tuple(_in(each, namespace) for each in some) for name, some in found.items()}


def _in(node: dict[str, Node], namespace: str) -> Node:
    if not namespace:
        return node
    metadata = {"name": node["metadata"]["name"], "namespace": namespace, **node["metadata"]}
    return {**node, "metadata": metadata}


def _plan_object(setting: Setting) -> dict[str, Node]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": setting.names.plan, "labels": setting.names.shared},
        "data": {at.PLAN_PATH.rpartition("/")[2]: dump_plan(setting.plan)},
    }


def _account(setting: Setting) -> dict[str, Node]:
    metadata: dict[str, Node] = {"name": setting.names.run, "labels": setting.names.shared}
    annotations = setting.profile.service_account_annotations
    if annotations and not setting.place.claim:
        metadata["annotations"] = Note(
            dict(sorted(annotations.items())), "Workload identity: no key of the bucket anywhere."
        )
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _kustomization(rendered: Rendered) -> str:
    tree = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(rendered.objects),
    }
    return document(tree, "Apply all of it with `kubectl apply -k .`")


def _warnings(setting: Setting) -> list[str]:
    plan, profile = setting.plan, setting.profile
    found = list(setting.sized.warnings)
    source = local_source(plan)
    if source:
        found.append(
            f"data.source.path: {source} is looked for in the image, below {at.WORK_DIRECTORY}; "
            "a bucket (s3://…, gs://…) needs no image of its own"
        )
    notice = profile.preemption_notice
    if (
        profile.spot
        and notice
        and notice < setting.checkpoint_seconds
        and setting.kind != "service"
    ):
        found.append(
            f"a preemptible node stays {format_duration(notice)} after its notice, and the last "
            f"checkpoint may take {format_duration(float(setting.checkpoint_seconds))} "
            "(coordination.stop_timeout): steps since the checkpoint before may be lost"
        )
    wanted = {profile.secret or setting.names.secrets: list(secret_names(plan))}
    if gcs_backend(setting) == "redis":
        secret, key = redis_secret(setting)
        wanted.setdefault(secret, []).append(key)
    found += [_secret_wanted(name, keys) for name, keys in wanted.items() if keys]
    if setting.sized.elastic and not setting.autoscaled:
        found.append(
            f"no autoscaler: all {setting.sized.most} workers are asked for from the beginning"
        )
    return found


def _secret_wanted(name: str, keys: Sequence[str]) -> str:
    options = " ".join(f"--from-literal={key}=…" for key in keys)
    return (
        f"the Secret {name} must hold {choice(keys, 'and')}: "
        f"kubectl create secret generic {name} {options}"
    )
