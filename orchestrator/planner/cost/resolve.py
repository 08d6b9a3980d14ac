"""Which case does a specification mean, and what was not said?

Fills every absent field, lists each default that was used, and refuses what contradicts
itself with every factor shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import PlanError, Problem
from orchestrator.planner.cost.case import Case, Cluster, Degrees, Work
from orchestrator.planner.cost.device import Device, Link, LinkFile
from orchestrator.planner.cost.hardware_files import find_device
from orchestrator.planner.cost.legal import case_problems
from orchestrator.planner.cost.shape import Shape
from orchestrator.planner.cost.spec import LinkSpec, MeshSpec, Spec


@dataclass(frozen=True)
class Resolved:
    """A case, the defaults that went into it, and what only concerns money and time."""

    case: Case
    defaults: dict[str, Any]
    name: str | None
    price_per_device_hour: float | None
    tokens: float | None
    checkpoint_seconds: float
    checkpoint_every: int | None


@dataclass
class _Filler:
    """Takes given values and remembers where a default stood in."""

    defaults: dict[str, Any] = field(default_factory=dict)

    def take(self, where: str, value: Any, default: Any) -> Any:
        """``value``, or ``default`` recorded under ``where``."""
        if value is not None:
            return value
        self.defaults[where] = default
        return default


def resolve(spec: Spec, source: str = "specification") -> Resolved:
    """The case that ``spec`` means.

    Raises ``PlanError`` for contradictions, an unknown device and a mesh that does not fill
    its devices.
    """
    filler = _Filler()
    device = find_device(spec.hardware.device)
    shape = _shape(spec, filler)
    degrees = _degrees(spec, filler, source)
    work = _work(spec, device, degrees, filler)
    cluster = _cluster(spec, device, degrees, filler)
    case = Case(shape, work, degrees, cluster)
    problems = [*_contradictions(spec), *case_problems(case)]
    if problems:
        raise PlanError(problems, source)
    price = spec.hardware.price_per_device_hour or device.price_per_hour
    training = spec.training
    return Resolved(
        case,
        filler.defaults,
        spec.name,
        price,
        training.tokens,
        training.checkpoint_seconds or 0.0,
        training.checkpoint_every,
    )


def _shape(spec: Spec, filler: _Filler) -> Shape:
    model = spec.model
    for name in ("gated_ffn", "experts", "shared_experts", "tied"):
        if name not in model.model_fields_set:
            filler.defaults[f"model.{name}"] = getattr(model, name)
    ffn = filler.take("model.ffn", model.ffn, 4 * model.hidden)
    topk, expert_ffn = 0, 0
    if model.experts:
        topk = filler.take("model.topk", model.topk, min(2, model.experts))
        expert_ffn = filler.take("model.expert_ffn", model.expert_ffn, ffn)
    return Shape(
        model.layers,
        model.hidden,
        model.heads,
        filler.take("model.kv_heads", model.kv_heads, model.heads),
        ffn,
        model.vocab,
        model.gated_ffn,
        model.experts,
        topk,
        expert_ffn,
        model.shared_experts,
        model.tied,
        model.head_dim or 0,
    )


def _degrees(spec: Spec, filler: _Filler, source: str) -> Degrees:
    mesh, devices = spec.mesh, spec.hardware.devices
    fixed = {name: getattr(mesh, name) or 1 for name in ("fsdp", "tp", "pp", "cp")}
    for name in ("fsdp", "tp", "pp", "cp", "ep"):
        filler.take(f"mesh.{name}", getattr(mesh, name), 1)
    inner = math.prod(fixed.values())
    rest = 1 if devices is None else max(1, devices // inner)
    dp = filler.take("mesh.dp", mesh.dp, rest)
    size = dp * inner
    if devices is not None and size != devices:
        raise PlanError([_misfit(mesh, dp, devices, size)], source)
    return Degrees(dp, fixed["fsdp"], fixed["tp"], fixed["pp"], fixed["cp"], mesh.ep or 1)


def _misfit(mesh: MeshSpec, dp: int, devices: int, size: int) -> Problem:
    names = {"dp": dp, **{n: getattr(mesh, n) or 1 for n in ("fsdp", "tp", "pp", "cp")}}
    product = " · ".join(f"{name} {degree}" for name, degree in names.items())
    others = size // dp
    works = f"hardware.devices: {size}"
    if devices % others == 0:
        works += f", or mesh.dp: {devices // others}"
    what = f"the mesh holds {size} devices, not {devices}"
    return Problem("mesh", what, f"{product} = {size}, and hardware.devices is {devices}", works)


def _work(spec: Spec, device: Device, degrees: Degrees, filler: _Filler) -> Work:
    given = spec.training
    shards = "full" if degrees.fsdp > 1 else "none"
    virtual = given.virtual_stages or 1
    schedule = "interleaved" if virtual > 1 else "1f1b"
    defaults: dict[str, Any] = {
        "micro_batch": 1,
        "precision": "fp32" if device.kind == "cpu" else "bf16",
        "recompute": "none",
        "attention": "flash",
        "compiled": False,
        "optimizer": "adamw",
        "schedule": schedule,
        "virtual_stages": 2 if given.schedule == "interleaved" else 1,
        "sequence_parallel": False,
        "sharding": shards,
        "overlap": True,
    }
    chosen = {
        name: filler.take(f"training.{name}", getattr(given, name), default)
        for name, default in defaults.items()
    }
    return Work(given.seq_len, given.global_batch, **chosen)


def _cluster(spec: Spec, device: Device, degrees: Degrees, filler: _Filler) -> Cluster:
    given = spec.hardware
    devices = filler.take("hardware.devices", given.devices, degrees.size)
    per_node = filler.take("hardware.per_node", given.per_node, device.per_node)
    for name, reason in device.not_measured.items():
        filler.defaults[f"hardware.device.{name}"] = reason
    return Cluster(
        device,
        devices,
        per_node,
        _link("intra", given.intra, device.intra, filler),
        _link("inter", given.inter, device.inter, filler),
    )


def _link(name: str, given: LinkSpec | None, device: LinkFile, filler: _Filler) -> Link:
    where = f"hardware.{name}"
    given = given or LinkSpec()
    bandwidth = filler.take(f"{where}.bandwidth", given.bandwidth, device.bandwidth)
    latency = filler.take(f"{where}.latency", given.latency, device.latency)
    return Link(bandwidth, latency)


def _contradictions(spec: Spec) -> list[Problem]:
    found: list[Problem] = []
    training, model, mesh = spec.training, spec.model, spec.mesh
    if (mesh.fsdp or 1) > 1 and training.sharding == "none":
        what = f"mesh.fsdp {mesh.fsdp} shards states, but training.sharding is none"
        found.append(Problem("training.sharding", what, works="full, or mesh.dp instead of fsdp"))
    if training.schedule in ("gpipe", "1f1b") and (training.virtual_stages or 1) > 1:
        what = f"{training.schedule} has one stage to a device, not {training.virtual_stages}"
        found.append(Problem("training.virtual_stages", what, works="schedule: interleaved"))
    dense_only = {"topk": model.topk, "expert_ffn": model.expert_ffn}
    for name, value in dense_only.items():
        if value is not None and not model.experts:
            what = f"{name} is {value}, but the model has no experts"
            found.append(Problem(f"model.{name}", what, works="model.experts: 8, or without it"))
    if model.shared_experts and not model.experts:
        what = "shared experts stand beside routed ones, of which there are none"
        found.append(Problem("model.shared_experts", what, works="model.experts: 8"))
    return found
