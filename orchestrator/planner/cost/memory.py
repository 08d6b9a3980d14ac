"""How many bytes does one device need at its peak, and do they fit?

The stage that needs most decides. ``peak`` is what an allocator hands out; what the driver,
the communication library and fragmentation take besides is ``RESERVE``, and is kept free.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.cost.activations import (
    kept_bytes,
    layer_working_bytes,
    output_working_bytes,
)
from orchestrator.planner.cost.case import BYTES_PER_ELEMENT, Case
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.parameters import Stage, StageParameters, stage_parameters, stages
from orchestrator.planner.cost.states import stage_states

RESERVED_BYTES = 1.5e9
"""Driver context, communication buffers and library workspaces on a GPU; they lie outside of
what an allocator reports."""

FIT_SHARE = 0.92
"""Share of the device that a fitting plan may fill, reserve included: allocators lose some to
fragmentation. In 454 published runs no estimate below 0.8 went out of memory."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the device of the stage that needs most."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float

    @property
    def peak(self) -> float:
        """All of them."""
        states = self.parameters + self.gradients + self.optimizer
        return states + self.activations + self.buffers


def memory(case: Case) -> Memory:
    """Bytes at the peak of the stage that needs most."""
    return max((_stage_memory(case, stage) for stage in stages(case)), key=lambda m: m.peak)


def _stage_memory(case: Case, stage: Stage) -> Memory:
    held = stage_parameters(case, stage)
    states = stage_states(case, held)
    working, buffers = _busiest_moment(case, stage, held)
    return Memory(
        states.parameters,
        states.gradients,
        states.optimizer,
        kept_bytes(case, stage) + working,
        buffers + standing_buffer_bytes(case, held),
    )


def _busiest_moment(case: Case, stage: Stage, held: StageParameters) -> tuple[float, float]:
    """Working activations and gathered pieces at the moment that needs most of both: the
    backward pass of a layer, or the loss. Full sharding holds the weights of the layer at work
    and of what comes next (another layer, after the only one the embedding), and a gradient before
    it is scattered; at the loss the table and its gradient."""
    width = 0
    if case.work.sharding == "full":
        width = BYTES_PER_ELEMENT[case.work.precision]
    following = held.layer if stage.layers > 1 else held.table * stage.embedding
    moments = [(layer_working_bytes(case), width * (2.0 * held.layer + following))]
    if stage.output:
        moments.append((output_working_bytes(case), 2.0 * width * held.table))
    return max(moments, key=sum)


def standing_buffer_bytes(case: Case, held: StageParameters) -> float:
    """Copies that live through the step. Gradients of bf16 training are kept in fp32, 2 bytes
    more than the 2 that ZeRO counts (Megatron-Core's main gradients; automatic mixed precision
    keeps fp32 weights instead, which is the same); fp8 keeps weights cast and transposed."""
    work = case.work
    size = 0.0
    if work.sharding != "full" and work.precision in ("bf16", "fp8"):
        share = case.degrees.shard_group if work.sharding == "gradients" else 1
        size += 2.0 * held.total / share
    if work.precision == "fp8":
        size += 2.0 * (2 * held.layer if work.sharding == "full" else held.total)
    return size


def capacity_bytes(device: Device) -> float:
    """Bytes that a plan may fill on ``device``: ``FIT_SHARE`` of it, less the reserve."""
    reserve = RESERVED_BYTES if device.kind == "gpu" else 0.0
    return FIT_SHARE * device.memory_bytes - reserve


def fits(case: Case, needed: float) -> bool:
    """Whether ``needed`` bytes leave the reserve free."""
    return needed <= capacity_bytes(case.cluster.device)
