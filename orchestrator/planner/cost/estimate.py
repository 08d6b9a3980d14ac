"""What does one configuration cost, and what decides it?

The door to the cost model: a specification in, one ``Estimate`` out. Pure; reads hardware
files and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import PlanError, Problem
from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.memory import Memory, fits, memory
from orchestrator.planner.cost.money import Money, money
from orchestrator.planner.cost.reasons import binding, reasons
from orchestrator.planner.cost.resolve import Resolved, resolve
from orchestrator.planner.cost.shape import model_flops_per_token
from orchestrator.planner.cost.spec import Spec
from orchestrator.planner.cost.spec_errors import schema_problems
from orchestrator.planner.cost.step import StepTime, step_time


@dataclass(frozen=True, slots=True)
class Estimate:
    """Everything that is predicted for one case. Rates are per device."""

    case: Case
    time: StepTime
    memory: Memory
    fits: bool
    checkpoint_share_seconds: float
    money: Money
    reasons: tuple[str, ...]
    defaults: Mapping[str, Any]
    name: str | None = None

    @property
    def step_seconds(self) -> float:
        """Seconds of one optimizer step, with its share of a checkpoint."""
        return self.time.total + self.checkpoint_share_seconds

    @property
    def tokens_per_second_per_device(self) -> float:
        """Tokens of the global batch over step time and devices."""
        work = self.case.work
        tokens = work.global_batch * work.seq_len
        return tokens / (self.step_seconds * self.case.degrees.size)

    @property
    def model_tflops_per_device(self) -> float:
        """Operations that the model needs, without recomputation, in 10^12 per second."""
        flops = model_flops_per_token(self.case.shape, self.case.work.seq_len)
        return flops * self.tokens_per_second_per_device / 1e12

    @property
    def hardware_tflops_per_device(self) -> float:
        """Operations that are carried out, recomputation included, in 10^12 per second."""
        return self.model_tflops_per_device * recomputed_factor(self.case)

    @property
    def mfu(self) -> float:
        """Model operations as a share of the device's peak, from 0 to 1."""
        work = self.case.work
        return self.model_tflops_per_device * 1e12 / self.case.cluster.device.peak(work.precision)


def recomputed_factor(case: Case) -> float:
    """Operations with recomputation over those without: 4/3 for the layers in full, and one
    more forward pass of the scores in a selective one."""
    shape, work = case.shape, case.work
    every = model_flops_per_token(shape, work.seq_len)
    if work.recompute == "full":
        layers = every - 6.0 * shape.embedding_parameters
        return 1.0 + layers / 3.0 / every
    if work.recompute == "selective":
        return 1.0 + 4.0 * shape.layers * shape.query_width * work.seq_len / every
    return 1.0


def estimate(spec: Spec, source: str = "specification") -> Estimate:
    """Predict one specification.

    Raises ``PlanError`` for what contradicts itself, an unknown device or an impossible mesh.
    A configuration that does not fit in memory is an estimate with ``fits`` false.
    """
    return estimate_resolved(resolve(spec, source))


def estimate_resolved(resolved: Resolved) -> Estimate:
    """The same after defaults were filled in."""
    case = resolved.case
    time, needed = step_time(case), memory(case)
    every = resolved.checkpoint_every
    share = resolved.checkpoint_seconds / every if every else 0.0
    return Estimate(
        case,
        time,
        needed,
        fits(case, needed.peak),
        share,
        money(case, time.total + share, resolved.price_per_device_hour, resolved.tokens),
        reasons(case, time, needed),
        resolved.defaults,
        resolved.name,
    )


def parse_specs(values: Any, source: str = "specification") -> list[Spec]:
    """One specification or a list of them, as read from YAML or JSON.

    Raises ``PlanError`` with every problem of every specification.
    """
    listed = values if isinstance(values, list) else [values]
    specs: list[Spec] = []
    problems: list[Problem] = []
    for index, item in enumerate(listed):
        prefix = f"[{index}]" if isinstance(values, list) else ""
        try:
            specs.append(Spec.model_validate(item))
        except ValidationError as error:
            problems += schema_problems(error, Spec, item, prefix)
    if not listed:
        problems.append(Problem("specification", "the list is empty", works="at least one"))
    if problems:
        raise PlanError(problems, source)
    return specs


def estimate_all(values: Any, source: str = "specification") -> list[Estimate]:
    """Predict every specification in ``values`` (one mapping, or a list of them)."""
    return [estimate(spec, source) for spec in parse_specs(values, source)]


def estimate_view(found: Estimate) -> dict[str, Any]:
    """An estimate as plain values for JSON; every quantity's unit is in its name."""
    time, needed, degrees = found.time, found.memory, found.case.degrees
    communication = {
        name: {"total": exchange.total, "exposed": exchange.exposed}
        for name, exchange in time.communication.items()
    }
    view: dict[str, Any] = {"name": found.name} if found.name else {}
    view |= {
        "step_seconds": found.step_seconds,
        "tokens_per_second_per_device": found.tokens_per_second_per_device,
        "tokens_per_second": found.tokens_per_second_per_device * degrees.size,
        "model_tflops_per_device": found.model_tflops_per_device,
        "hardware_tflops_per_device": found.hardware_tflops_per_device,
        "mfu": found.mfu,
        "memory_bytes": _memory_view(needed),
        "device_memory_bytes": found.case.cluster.device.memory_bytes,
        "fits": found.fits,
        "communication_seconds": communication,
        "bubble_fraction": time.bubble_fraction,
        "binds": binding(time),
        "seconds": _seconds_view(found),
        "parameters": found.case.shape.parameters,
        "devices": degrees.size,
        "micro_batches": found.case.micro_batches,
    }
    view |= found.money.view()
    return view | {"reasons": list(found.reasons), "defaults": dict(found.defaults)}


def _memory_view(needed: Memory) -> dict[str, int]:
    names = ("parameters", "gradients", "optimizer", "activations", "buffers", "peak")
    return {name: round(getattr(needed, name)) for name in names}


def _seconds_view(found: Estimate) -> dict[str, float]:
    time = found.time
    names: Sequence[str] = ("products", "attention", "streaming", "host", "bubble", "straggling")
    view = {name: getattr(time, name) for name in (*names, "optimizer")}
    view["communication"] = time.exposed
    view["data"] = time.data
    view["checkpoint"] = found.checkpoint_share_seconds
    return view
