"""What is one machine? The yardstick that every ceiling is measured against."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.plan.quantities import Bytes, Seconds
from orchestrator.planner.design.quantities import ByteRate, FlopRate, Positive

FILL = 0.8
"""How full memory and disk may be: of 454 published runs that an estimate put below 80 % of the
device, none went out of memory; the rest is for activations, buffers and growth."""


class Part(BaseModel):
    """A frozen part of a workload; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


class Link(Part):
    """A way between two places: a message of n bytes takes latency + n / bandwidth."""

    bandwidth: ByteRate
    """Bytes per second in one direction (``25GB/s``), or bits (``100Gb/s``)."""
    latency: Seconds
    """Time of an empty message."""


class Machine(Part):
    """One machine; the defaults are a plain 16-core server without accelerators."""

    cores: Annotated[int, Field(ge=1)] = 16
    """Requests or decisions that it computes at the same time, where it has no accelerators."""
    memory: Annotated[Bytes, Field(gt=0)] = 64 * 2**30
    """Main memory."""
    disk: Annotated[Bytes, Field(gt=0)] = 2 * 10**12
    """Local disk."""
    disk_rate: ByteRate = 500e6
    """Sequential reading from disk."""
    device: str | None = None
    """A known accelerator, such as ``H100-80GB-SXM``: how many a machine has, their memory and
    their links are then those of its hardware file, where they are not written here."""
    devices: Annotated[int, Field(ge=0)] = 0
    """Accelerators; 0: the machine itself computes."""
    device_memory: Annotated[Bytes, Field(gt=0)] | None = None
    """Memory of one accelerator."""
    device_bandwidth: ByteRate | None = None
    """Memory bandwidth of one accelerator."""
    flops: FlopRate | None = None
    """FLOP per second that training or serving really sustains, not the data sheet's peak: on
    one accelerator, or on the whole machine where it has none."""
    device_link: Link = Link(bandwidth=50e9, latency=5e-6)
    """Between two accelerators of the machine."""
    network: Link = Link(bandwidth=1.25e9, latency=50e-6)
    """Between two machines; the bandwidth is that of all network cards of one machine."""
    price_per_hour: Positive | None = None
    """Price of the machine for an hour, in your currency."""

    @property
    def num_units(self) -> int:
        """What computes: accelerators, or the machine itself."""
        return max(self.devices, 1)

    @property
    def unit(self) -> str:
        """What a thing that computes is called."""
        return "device" if self.devices else "machine"

    @property
    def unit_memory_whole(self) -> int:
        """Bytes of one unit."""
        return self.device_memory if self.devices and self.device_memory else self.memory

    @property
    def unit_memory(self) -> float:
        """Bytes that one unit may be filled with."""
        return FILL * self.unit_memory_whole

    @property
    def lanes(self) -> int:
        """Requests that one machine computes at the same time: one a device, or one a core."""
        return self.devices or self.cores
