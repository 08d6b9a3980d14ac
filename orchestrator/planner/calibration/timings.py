"""What was measured? Plain values, as whoever measures hands them in; times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.planner.cost.case import Recompute
from orchestrator.planner.cost.device import Collective

Precision = Literal["fp32", "bf16"]
Split = Literal["alone", "tensor", "shard"]
"""How a layer lies: whole, its matrices over tensor ranks, or its parameters over data ranks."""


@dataclass(frozen=True, slots=True)
class ProductTiming:
    """One product of [rows, inner] with [inner, columns]."""

    rows: int
    columns: int
    inner: int
    precision: Precision
    seconds: float

    @property
    def rate(self) -> float:
        """Operations per second: two for each multiplication and addition."""
        return 2.0 * self.rows * self.columns * self.inner / self.seconds


@dataclass(frozen=True, slots=True)
class AttentionTiming:
    """Causal fused attention of ``heads`` heads (samples times heads) over ``length`` tokens."""

    heads: int
    length: int
    head_size: int
    precision: Precision
    forward_seconds: float
    backward_seconds: float


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """The elementwise kernels of one layer, forward and backward, over so many counted bytes."""

    num_bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ExchangeTiming:
    """One collective: ``num_bytes`` of the whole buffer, as the cost model counts it."""

    collective: Collective
    ranks: int
    num_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerTiming:
    """Host seconds of the forward and the backward pass of one layer on next to nothing;
    ``forward_seconds`` are those of the forward pass alone."""

    recompute: Recompute
    split: Split
    seconds: float
    forward_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerTimings:
    """What one worker measured of itself while all others measured, too."""

    products: tuple[ProductTiming, ...]
    attention: tuple[AttentionTiming, ...]
    kernels: tuple[KernelTiming, ...]
    memory_bytes_per_second: float
    operation_seconds: float
    """Of the host, for one small operation."""
    processors: int = 1
    """Units of the device that each compute one tile of a product."""


@dataclass(frozen=True, slots=True)
class RayTimings:
    """What Ray itself took."""

    actor_start_seconds: float
    placement_group_seconds: float
    transfers: tuple[tuple[int, float], ...]
    """Bytes of an object, and seconds until another process had it."""


@dataclass(frozen=True, slots=True)
class DiskTimings:
    """Durable writes to the storage of runs, and reads from it."""

    write_bytes_per_second: float
    read_bytes_per_second: float


@dataclass(frozen=True)
class Timings:
    """Everything that ``axis calibrate`` measured."""

    kind: Literal["cpu", "gpu"]
    model_name: str
    per_node: int
    num_nodes: int
    num_workers: int
    memory_bytes: int
    """Of one device; of a processor's core its share of the node's."""
    workers: tuple[WorkerTimings, ...]
    within: tuple[ExchangeTiming, ...] = ()
    between: tuple[ExchangeTiming, ...] = ()
    layers: tuple[LayerTiming, ...] = ()
    pace: tuple[tuple[float, ...], ...] = ()
    """What each worker took for the same work, step after step."""
    ray: RayTimings | None = None
    disk: DiskTimings | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
