"""How does a plan run under Slurm? An sbatch script: a Ray cluster over the allocation, and
``axis run`` on it.

The script is a head of settings, which are written here from the plan, and a body that is the same
for every plan (``slurm_body.sh``). Pure.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated

from pydantic import Field

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import Bytes, Deadline
from orchestrator.plan.section import Section
from orchestrator.render.nodes import ray_labels
from orchestrator.render.profile import GIB, NodeSize, Profile, read_profile
from orchestrator.render.references import written_out
from orchestrator.render.sizing import Group, size

GRACE_MARGIN_SECONDS = 30


class SlurmProfile(Section):
    """The Slurm cluster that carries plans out."""

    partition: str = ""
    """Where the job is queued; empty: the default partition."""
    account: str = ""
    """Who pays."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features of the nodes, as ``--constraint`` takes them."""
    time: Deadline = 86_400.0
    """The time limit. Before it is reached the run takes a checkpoint."""
    node: NodeSize = NodeSize()
    """What a node has; it decides how many workers one holds."""
    workers_per_node: Annotated[int, Field(ge=1)] | None = None
    """Training workers on one node; ``null``: as many as a node holds, or one tensor·pipeline
    group where its size is not known."""
    memory_per_worker: Bytes = 4 * GIB
    """Memory of a worker whose ``resources.memory`` is not given."""
    object_store: Bytes = GIB
    """Ray's object store on each node."""
    gpu_type: str = ""
    """The type in ``--gres=gpu:TYPE:N``."""
    setup: tuple[str, ...] = ()
    """Shell lines before anything else, such as ``source .venv/bin/activate``."""
    start_timeout: Deadline = 120.0
    """How long the Ray cluster may take to come up."""
    requeues: Annotated[int, Field(ge=0)] = 100
    """How often a job that met its time limit is queued again; each goes on with the run."""
    extra: tuple[str, ...] = ()
    """Further options of sbatch, such as ``--mail-type=END``."""


def load_slurm_profile(own: Mapping[str, str]) -> SlurmProfile:
    """The profile files laid over one another. Raises ``PlanError`` for what they get wrong."""
    return read_profile(list(own.items()), SlurmProfile)


def script(
    plan: Plan,
    profile: SlurmProfile,
    plan_path: str,
    overrides: tuple[str, ...] = (),
    command: str = "axis render",
) -> str:
    """The sbatch script. Raises ``PlanError`` for a plan that one allocation cannot hold."""
    problems = written_out(plan)
    if problems:
        raise PlanError(problems, "plan")
    group = _group(plan, profile)
    lead = math.ceil(plan.coordination.stop_timeout) + GRACE_MARGIN_SECONDS
    if profile.time <= lead:
        what = "leaves no time for anything but the last checkpoint"
        arithmetic = f"{profile.time:g} s, of which {lead} s are for it (coordination.stop_timeout)"
        raise PlanError([Problem("profile.time", what, arithmetic, "time: 24h")], "profile")
    head = _options(plan, profile, group, lead)
    body = files("orchestrator.render").joinpath("slurm_body.sh").read_text("utf-8")
    settings = _settings(plan, profile, group, shlex.join(["axis", "run", plan_path, *overrides]))
    told = _heading(plan, group, command)
    return "\n".join(["#!/usr/bin/env bash", *told, *head, "", *settings, "", body])


def _group(plan: Plan, profile: SlurmProfile) -> Group:
    per_pod = profile.workers_per_node or ("auto" if profile.node == NodeSize() else "fill")
    shape = Profile(
        node=profile.node,
        workers_per_pod=per_pod,
        memory_per_worker=profile.memory_per_worker,
        shared_memory=profile.object_store,
    )
    sized = size(plan, shape, "job", uniform=True)
    return sized.groups[0]


def _heading(plan: Plan, group: Group, command: str) -> list[str]:
    return [
        f"# Carries out the plan {plan.name} on a Ray cluster over a Slurm allocation.",
        f"# Rendered by `{command}`; change the plan and render again.",
        f"# {_bundles(group.per_pod)} on each node. Submit it from the folder that holds the",
        "# plan and the Job's code; all nodes must see that folder and `storage`.",
        "# shellcheck disable=SC2329  # functions that traps call",
    ]


def _bundles(number: int) -> str:
    return "One of the plan's bundles lies" if number == 1 else f"{number} of its bundles lie"


def _options(plan: Plan, profile: SlurmProfile, group: Group, lead: int) -> list[str]:
    low, high = group.min_pods, group.max_pods
    memory = math.ceil(group.memory_bytes / 2**20)
    found = [
        f"--job-name={plan.name}",
        f"--nodes={low}" if low == high else f"--nodes={low}-{high}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={max(1, group.cpus) + 1}",  # one for Ray itself
        f"--mem={memory}M",
    ]
    if group.gpus:
        kind = f"gpu:{profile.gpu_type}" if profile.gpu_type else "gpu"
        found.append(f"--gres={kind}:{group.gpus}")
    for name in ("partition", "account", "qos", "constraint"):
        value = getattr(profile, name)
        if value:
            found.append(f"--{name}={value}")
    found += [
        f"--time={_time(profile.time)}",
        f"--signal=B:USR1@{lead}",
        "--requeue",
        "--no-kill",
        "--open-mode=append",
        "--output=%x-%j.log",
        *profile.extra,
    ]
    return [f"#SBATCH {option}" for option in found]


def _settings(plan: Plan, profile: SlurmProfile, group: Group, run: str) -> list[str]:
    return [
        *profile.setup,
        f"RUN=({run})",
        f"FEWEST_NODES={group.min_pods}",
        f"NODE_OPTIONS=({_node_options(group)})",
        f"OBJECT_STORE_BYTES={profile.object_store}",
        f"CHECKPOINT_SECONDS={math.ceil(plan.coordination.stop_timeout)}",
        f"START_SECONDS={math.ceil(profile.start_timeout)}",
        f"MOST_REQUEUES={profile.requeues}",
        "# Two Ray nodes share the first machine, so nothing may insist on a port.",
        "AGENT_PORTS=(--dashboard-agent-listen-port=0 --dashboard-agent-grpc-port=0)",
    ]


def _node_options(group: Group) -> str:
    """What a node offers, as ``ray start`` takes it."""
    offered = dict(group.offered)
    words = [f"--num-cpus={offered.pop('CPU')}", f"--num-gpus={offered.pop('GPU', 0)}"]
    if "memory" in offered:
        words.append(f"--memory={offered.pop('memory')}")
    if offered:
        words.append(f"--resources={json.dumps(offered, sort_keys=True)}")
    labels = ray_labels(group.selector)
    if labels:
        words.append("--labels=" + ",".join(f"{key}={value}" for key, value in labels.items()))
    return shlex.join(words)


def _time(seconds: float) -> str:
    """``1-02:03:04``, as Slurm writes a time limit."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}"
