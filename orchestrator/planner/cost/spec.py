"""What may a person ask ``axis estimate``? The schema of one specification.

``resolve`` turns it into a ``Case``; nothing here decides a default, it only allows absence.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from orchestrator.plan.section import Section
from orchestrator.planner.cost.case import (
    Attention,
    Optimizer,
    Precision,
    Recompute,
    Schedule,
    Sharding,
)
from orchestrator.planner.cost.quantities import Bandwidth, Latency


class _Asked(Section):
    """What is read more freely than a plan is (``32.0`` and ``"32"`` are numbers), but not so
    freely that ``true`` is 1."""

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and {int, float} & {
            field.annotation,
            *get_args(field.annotation),
        }:
            raise PydanticCustomError("float_type", "expected a number")
        return value


class ModelSpec(_Asked):
    """The shape of a decoder-only transformer."""

    layers: int = Field(ge=1)
    """Transformer layers."""
    hidden: int = Field(ge=1)
    """Width of the residual stream."""
    heads: int = Field(ge=1)
    """Attention heads."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values; as many as ``heads`` where absent."""
    ffn: int | None = Field(default=None, ge=1)
    """Width of the feed-forward block; 4 · hidden where absent."""
    vocab: int = Field(ge=1)
    """Entries of the vocabulary."""
    gated_ffn: bool = False
    """Three matrices (SwiGLU) instead of two."""
    experts: int = Field(default=0, ge=0)
    """Routed experts of a layer; 0 is a dense model."""
    topk: int | None = Field(default=None, ge=1)
    """Experts that each token passes; 2 where absent."""
    expert_ffn: int | None = Field(default=None, ge=1)
    """Width of one expert; ``ffn`` where absent."""
    shared_experts: int = Field(default=0, ge=0)
    """Experts that every token passes."""
    tied: bool = False
    """The output table is the embedding."""
    head_dim: int | None = Field(default=None, ge=1)
    """Elements of one head; hidden / heads where absent."""


class TrainingSpec(_Asked):
    """How a step is computed."""

    seq_len: int = Field(ge=1)
    """Tokens of one sample."""
    global_batch: int = Field(ge=1)
    """Samples of one optimizer step, over all devices."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Samples that a device computes at once; 1 where absent."""
    precision: Precision | None = None
    """Arithmetic of matrix products."""
    recompute: Recompute | None = None
    """Activations computed again in the backward pass."""
    attention: Attention | None = None
    """Fused (flash), or the whole matrix of scores in memory."""
    compiled: bool | None = None
    """Kernels fused and launched by a compiler."""
    optimizer: Optimizer | None = None
    """adamw keeps two moments, sgd a momentum."""
    schedule: Schedule | None = None
    """Order of micro-batches in the pipeline."""
    virtual_stages: int | None = Field(default=None, ge=1)
    """Model chunks of one device in an interleaved schedule."""
    sequence_parallel: bool | None = None
    """Split norms and residuals over the tensor dimension."""
    sharding: Sharding | None = None
    """Which states are sharded over the data ranks: ZeRO 0, 1, 2, 3."""
    overlap: bool | None = None
    """Hide communication behind computation where the dimension allows it."""
    tokens: float | None = Field(default=None, gt=0)
    """Tokens of the whole training, for time and money to finish."""
    checkpoint_seconds: Latency | None = None
    """Seconds that training stands still for one checkpoint."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints."""


class MeshSpec(_Asked):
    """Degrees of the mesh; ``dp`` takes the devices that the others leave."""

    dp: int | None = Field(default=None, ge=1)
    """Replicas of the data dimension."""
    fsdp: int | None = Field(default=None, ge=1)
    """Ranks over which states are sharded."""
    tp: int | None = Field(default=None, ge=1)
    """Tensor dimension."""
    pp: int | None = Field(default=None, ge=1)
    """Pipeline stages."""
    cp: int | None = Field(default=None, ge=1)
    """Context dimension: parts of one sequence."""
    ep: int | None = Field(default=None, ge=1)
    """Expert dimension; reuses ranks of dp, fsdp and cp."""


class LinkSpec(_Asked):
    """A link that differs from the device's file."""

    bandwidth: Bandwidth | None = None
    """Bytes per second in one direction: per device within a node, per node between nodes."""
    latency: Latency | None = None
    """Seconds for one step of a collective."""


class HardwareSpec(_Asked):
    """Where it runs."""

    device: str | dict[str, Any]
    """Name of a known device, or the values of a hardware file. The command line also takes
    the path of such a file."""
    devices: int | None = Field(default=None, ge=1)
    """Devices in all; the product of the mesh where absent."""
    per_node: int | None = Field(default=None, ge=1)
    """Devices that share a node."""
    intra: LinkSpec | None = None
    """Link between devices of a node, per device."""
    inter: LinkSpec | None = None
    """Link between nodes, per node."""
    price_per_device_hour: float | None = Field(default=None, gt=0)
    """Price of one device for one hour."""


class Spec(Section):
    """One configuration to be estimated."""

    name: str | None = None
    """What to call it in the output."""
    model: ModelSpec
    """Shape of the model."""
    training: TrainingSpec
    """How it is trained."""
    mesh: MeshSpec = MeshSpec()
    """How it is distributed."""
    hardware: HardwareSpec
    """On what."""
