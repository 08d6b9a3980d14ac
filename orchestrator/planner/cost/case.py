"""What is estimated: one model, one way to train it, one mesh, one cluster, as plain values.

Everything is resolved here: no defaults, no names to look up. ``spec`` makes these values from
what a person wrote, ``search`` makes thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.planner.cost.device import Device, Link
from orchestrator.planner.cost.shape import Shape

Precision = Literal["fp32", "bf16", "fp16", "fp8"]
Recompute = Literal["none", "selective", "full"]
Attention = Literal["flash", "unfused"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["gpipe", "1f1b", "interleaved"]
Sharding = Literal["none", "optimizer", "gradients", "full"]


@dataclass(frozen=True, slots=True)
class Work:
    """How a step is computed. Batches count samples of ``seq_len`` tokens."""

    seq_len: int
    global_batch: int
    micro_batch: int = 1
    precision: Precision = "bf16"
    recompute: Recompute = "none"
    attention: Attention = "flash"
    compiled: bool = False
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "1f1b"
    virtual_stages: int = 1
    sequence_parallel: bool = False
    sharding: Sharding = "none"
    overlap: bool = True


@dataclass(frozen=True, slots=True)
class Degrees:
    """The mesh, from the outermost dimension to the innermost: pp, dp, fsdp, cp, tp."""

    dp: int = 1
    fsdp: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1

    @property
    def size(self) -> int:
        """K, the devices in the mesh."""
        return self.dp * self.fsdp * self.tp * self.pp * self.cp

    @property
    def batch(self) -> int:
        """Ranks that see different samples."""
        return self.dp * self.fsdp

    @property
    def shard_group(self) -> int:
        """Ranks over which states are sharded: ``fsdp``, or all of ``dp`` where fsdp is 1.

        Context ranks hold the same parameters and shard them too.
        """
        return (self.fsdp if self.fsdp > 1 else self.dp) * self.cp

    def __str__(self) -> str:
        names = ("dp", "fsdp", "tp", "pp", "cp", "ep")
        parts = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name) > 1]
        return " · ".join(parts) or "one device"


@dataclass(frozen=True, slots=True)
class Cluster:
    """``devices`` of one kind, ``per_node`` to a node.

    ``intra.bandwidth`` is per device, ``inter.bandwidth`` per node, both in one direction.
    """

    device: Device
    devices: int
    per_node: int
    intra: Link
    inter: Link


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration to be estimated."""

    shape: Shape
    work: Work
    degrees: Degrees
    cluster: Cluster

    @property
    def micro_batches(self) -> int:
        """m: micro-batches that each rank accumulates in one step."""
        return self.work.global_batch // (self.degrees.batch * self.work.micro_batch)

    @property
    def rank_tokens(self) -> int:
        """Tokens of one micro-batch that one rank of the context dimension holds."""
        return self.work.micro_batch * self.work.seq_len // self.degrees.cp


BYTES_PER_ELEMENT: dict[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}
"""Bytes of one activation or working weight. fp8 training keeps both in bf16 (Transformer
Engine): only the operands of a matrix product are cast."""
