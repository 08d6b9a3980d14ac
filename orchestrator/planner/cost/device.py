"""What can a device do, and what can its links?

Values of one hardware description; ``hardware_files`` reads them. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from orchestrator.plan.section import Section
from orchestrator.planner.cost.quantities import Bandwidth, Latency, Size


@dataclass(frozen=True, slots=True)
class Link:
    """A link: bytes per second in one direction, seconds before the first byte arrives."""

    bandwidth: float
    latency_seconds: float


class LinkFile(Section):
    """A link as a hardware file states it."""

    bandwidth: Bandwidth
    """Bytes per second in one direction: within a node per device, between nodes per node."""
    latency: Latency = 5e-6
    """Seconds for one step of a collective."""
    efficiency: float = Field(default=0.8, gt=0, le=1)
    """Share of the bandwidth that large collectives reach (bus bandwidth / link rate)."""


class FlashFile(Section):
    """How much of the matrix peak a fused attention kernel reaches, at head size 128."""

    forward: float = Field(gt=0, le=1)
    """Share of peak, forward."""
    backward: float = Field(gt=0, le=1)
    """Share of peak, backward."""


class Device(Section):
    """One hardware file: a device, its node and the cluster it is usually found in."""

    name: str
    """As the ``gpu`` column of the published tables names it."""
    aliases: tuple[str, ...] = ()
    """Other names under which it is found."""
    kind: str = "gpu"
    """gpu or cpu."""
    generation: str
    """Devices of one generation share their calibrated constants."""
    peak_flops: Mapping[str, float]
    """Dense operations per second by precision, as the vendor states them."""
    matmul_ceiling: Mapping[str, float] = {}
    """Largest matrix rate that was measured, by precision; 0.8 of peak where none was."""
    sustained: float = Field(default=1.0, gt=0, le=1)
    """Share of the ceiling that long runs keep (power, clocks); calibrated per generation."""
    processors: int = Field(default=1, ge=1)
    """Units that each compute one tile of a product: streaming multiprocessors, or cores."""
    flash: FlashFile
    """Efficiency of fused attention."""
    memory_bytes: Size
    """What an allocator can have at most."""
    memory_bandwidth: Bandwidth
    """Bytes per second to device memory."""
    host_seconds_per_operation: Latency = 35e-6
    """Host time to launch one operation eagerly in the forward pass."""
    per_node: int = Field(default=8, ge=1)
    """Devices that share a node and its links."""
    intra: LinkFile
    """Between devices of a node; ``bandwidth`` is per device."""
    inter: LinkFile
    """Between nodes; ``bandwidth`` is per node."""
    price_per_hour: float | None = Field(default=None, gt=0)
    """Price of one device for one hour, in the currency of the file; nothing where unknown."""

    def __hash__(self) -> int:
        return hash(self.name)

    def peak(self, precision: str) -> float:
        """Dense operations per second; a precision the device lacks runs as the next wider one."""
        for candidate in _FALLBACK[precision]:
            if candidate in self.peak_flops:
                return self.peak_flops[candidate]
        raise KeyError(precision)

    def ceiling(self, precision: str) -> float:
        """Measured matrix ceiling in operations per second, or 0.8 of peak.

        fp16 and bf16 run on the same units at the same rate: a ceiling measured in one holds
        for the other.
        """
        peak = self.peak(precision)
        measured = [
            self.matmul_ceiling[candidate]
            for candidate in _FALLBACK[precision]
            if candidate in self.matmul_ceiling and self.peak_flops.get(candidate) == peak
        ]
        return measured[0] if measured else UNMEASURED_CEILING * peak


UNMEASURED_CEILING = 0.8
"""Matrix ceiling as a share of peak where no measurement is known (the published ceilings of
H100 and B200 are 0.80 and 0.78, of A100 0.87)."""

_FALLBACK = {
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp32": ("fp32",),
}
