"""What does a plan not say about the place that carries it out?

Image, storage class, node sizes, queues: a profile. Built-in ones are ``kind``, ``gke``, ``eks``
and ``spot``; several are laid over one another, the later one wins. Knows nothing of plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.quantities import Bytes, Deadline
from orchestrator.plan.section import Section
from orchestrator.plan.wording import choice, nearest
from orchestrator.planner.cost.spec_errors import schema_problems

BUILT_IN = ("kind", "gke", "eks", "spot")
DEFAULT_IMAGE = "axis:0.1.0"
"""The image that ``deploy/Dockerfile`` builds; ``-cuda`` is added where the plan asks for GPUs."""

GIB = 2**30
Model = TypeVar("Model", bound=Section)


class NodeSize(Section):
    """What one Kubernetes node can give to one pod, at most; 0: not limited."""

    cpu: Annotated[float, Field(ge=0)] = 0
    """Allocatable CPUs."""
    memory: Bytes = 0
    """Allocatable memory."""
    gpu: Annotated[int, Field(ge=0)] | None = None
    """GPUs; ``null``: not known, 0: there are none."""


class Volume(Section):
    """The volume that holds runs, where ``storage`` in the plan is a folder."""

    claim: str = ""
    """An existing PersistentVolumeClaim; without one, a claim is rendered."""
    storage_class: str = ""
    """The StorageClass of the rendered claim; empty: the cluster's default."""
    access: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """Pods on several nodes write to it, so it must be ReadWriteMany; ReadWriteOnce will do on a
    cluster of one node."""
    size: Bytes = 100 * GIB
    """The size of the rendered claim."""


class Secret(Section):
    """A key of a Kubernetes Secret."""

    name: Annotated[str, Field(min_length=1)]
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1)]
    """The key within it."""


class Taint(Section):
    """A toleration of a taint, in Kubernetes' words."""

    key: str
    """The taint's key."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Whether the value matters."""
    value: str | None = None
    """The taint's value, with ``Equal``."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; any, where not given."""


class NetworkPeer(Section):
    """Addresses that pods may connect to besides what is always open."""

    cidr: Annotated[str, Field(min_length=1)]
    """An address range such as ``169.254.169.254/32``."""
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...]
    """TCP ports."""
    why: str = ""
    """The comment in the manifest."""


class Profile(Section):
    """The place that carries plans out."""

    image: str = ""
    """The container image; empty: ``axis:0.1.0``, ``axis:0.1.0-cuda`` for a plan with GPUs."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When nodes pull the image."""
    pull_secret: str = ""
    """A Secret of type ``kubernetes.io/dockerconfigjson`` for a private registry."""
    namespace: str = ""
    """The namespace of all objects; empty: that of ``kubectl apply -n``."""
    working_dir: str = ""
    """A URI of a zip file with the Job's code, for Ray's ``runtime_env``; empty: it is in the
    image."""

    node: NodeSize = NodeSize()
    """The largest pod that the cluster can hold."""
    workers_per_pod: Annotated[int, Field(ge=1)] | Literal["auto", "fill"] = "auto"
    """Training workers in one pod; ``auto``: one tensor·pipeline group, and whole CPUs; ``fill``:
    as many whole groups as a node holds."""
    memory_per_worker: Bytes = 4 * GIB
    """Memory of a member of an axis whose ``resources.memory`` is not given."""
    shared_memory: Bytes = 2 * GIB
    """/dev/shm of each pod: Ray's object store (half of it) and exchange between processes."""
    scratch: Bytes = 20 * GIB
    """/tmp of each pod: Ray's logs, spilled objects, caches."""
    head_cpu: Annotated[float, Field(gt=0)] = 2
    """CPUs of the head pod: GCS, dashboard, driver, coordinator; none are offered to the gang."""
    head_memory: Bytes = 8 * GIB
    """Memory of the head pod."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the device plugin calls a GPU."""
    device_resources: dict[str, str] = {
        "TPU": "google.com/tpu",
        "neuron_cores": "aws.amazon.com/neuroncore",
    }
    """A custom resource in the plan → what a device plugin calls it; others are Ray's alone."""

    node_selector: dict[str, str] = {}
    """Labels that Kubernetes nodes of workers must have."""
    label_map: dict[str, str] = {}
    """A Ray label in the plan → the label of Kubernetes nodes that it stands for; the same name
    where it is not listed."""
    value_map: dict[str, str] = {}
    """A label's value in the plan → the value on Kubernetes nodes."""
    tolerations: tuple[Taint, ...] = ()
    """Taints that workers tolerate, besides that of GPUs."""
    spot: dict[str, str] = {}
    """Labels of preemptible nodes; workers prefer them, the head avoids them anyway."""
    preemption_notice: Deadline | None = None
    """How long a preemptible node stays after its notice."""

    volume: Volume = Volume()
    """Where runs lie, if ``storage`` is a folder."""
    service_account_annotations: dict[str, str] = {}
    """Annotations of the ServiceAccount: workload identity for a bucket."""
    secret: str = ""
    """The Secret that holds what the plan names as ``${env:NAME}``, by the same names; empty:
    ``<name>-secrets``."""
    env_secrets: dict[str, Secret] = {}
    """Further environment variables, each from a key of a Secret."""
    env: dict[str, str] = {}
    """Further environment variables; nothing secret."""

    queue: str = ""
    """The queue that admits the gang; empty: no queue."""
    queue_kind: Literal["kueue", "volcano"] = "kueue"
    """Which system admits it."""
    priority_class: str = ""
    """The priority class within the queue."""

    autoscaling: bool = True
    """Let KubeRay's autoscaler start and end pods within the elastic range."""
    idle_timeout: Deadline = 300.0
    """How long a pod may be idle before the autoscaler ends it."""
    retries: Annotated[int, Field(ge=0)] = 3
    """New clusters that a RayJob may try after the first; each resumes the run."""
    start_deadline: Deadline = 1800.0
    """How long pods may take to be scheduled, pull their image and start."""
    keep_finished: Deadline = 300.0
    """How long a finished RayJob keeps its cluster, to be looked at."""

    gcs: Literal["auto", "none", "redis", "rocksdb"] = "auto"
    """Where the head's state survives its restart; ``auto``: ``redis`` for all that outlives a
    job. ``rocksdb`` needs KubeRay's feature gate ``GCSFaultToleranceEmbeddedStorage``."""
    redis_address: str = ""
    """An existing Redis, as ``redis:6379``; empty: one is rendered."""
    redis_image: str = "redis:7.4.2-alpine"
    """The image of the rendered Redis."""
    redis_secret: Secret | None = None
    """Its password; ``null``: key ``password`` of ``<name>-redis``."""
    tls: bool = False
    """TLS between all parts of Ray; needs cert-manager and KubeRay's feature gate
    ``RayClusterMTLS``."""

    operator_namespace: str = "kuberay-system"
    """Where the KubeRay operator runs; it may reach the dashboard and Serve."""
    monitoring_namespace: str = "monitoring"
    """Where Prometheus runs; it may read the metrics."""
    client_namespaces: tuple[str, ...] = ()
    """Whose pods may send requests to the served model, besides labelled ones of the same
    namespace."""
    api_server: str = "0.0.0.0/0"
    """The address range of the Kubernetes API, for the autoscaler."""
    egress: tuple[NetworkPeer, ...] = ()
    """What else pods may connect to."""


def load_profile(names: Sequence[str], own: Mapping[str, str]) -> Profile:
    """The profiles laid over one another, the later over the earlier.

    ``own`` holds the texts of those that are files. Raises ``PlanError`` for a name that is not
    known, and for what cannot be understood in a file.
    """
    texts = [(name, own[name] if name in own else _built_in(name)) for name in names]
    return read_profile(texts, Profile)


def read_profile(texts: Sequence[tuple[str, str]], model: type[Model]) -> Model:
    """A profile of any model from the texts of files, by their names."""
    values: dict[str, Any] = {}
    for name, text in texts:
        found = _parsed(text, name)
        _checked(found, name, model)  # whatever is wrong is said of the file that says it
        values = _over(values, found)
    return _checked(values, ", ".join(name for name, _ in texts) or "profile", model)


def _built_in(name: str) -> str:
    texts = _texts()
    if name not in texts:
        works = choice(nearest(name, texts) or sorted(texts))
        problem = Problem("--profile", f"there is no profile {name}", works=works)
        raise PlanError([problem], "command line")
    return texts[name]


@cache
def _texts() -> Mapping[str, str]:
    folder = files("orchestrator.render").joinpath("profiles")
    return {name: folder.joinpath(f"{name}.yaml").read_text("utf-8") for name in BUILT_IN}


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = place.line + 1 if place else None
        what = f"is not YAML: {getattr(error, 'problem', None) or error}"
        raise PlanError([Problem("profile", what, file=source, line=line)], source) from error
    if not isinstance(values, dict):
        raise PlanError([Problem("profile", "is not a mapping of fields", file=source)], source)
    return values


def _checked(values: Mapping[str, Any], source: str, model: type[Model]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise PlanError(schema_problems(error, model, values), source) from error


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are joined, lists follow one another, the rest is replaced."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            found[key] = _over(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            found[key] = old + [each for each in value if each not in old]
        else:
            found[key] = value
    return found
