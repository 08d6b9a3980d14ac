"""What can a device do, and what can its links?

Values of one hardware description; ``hardware_files`` reads them. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from orchestrator.plan.section import Section
from orchestrator.planner.cost.constants import MEMORY_EFFICIENCY
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


class HalfLengths(Section):
    """How a measured device loses speed in small products: n½ of Hockney and Jesshope (1981), the
    length at which half of the full rate is reached, for each side of [rows, inner]·[inner,
    columns]."""

    rows: float = Field(default=0.0, ge=0)
    """Of the left side, and of the result."""
    columns: float = Field(default=0.0, ge=0)
    """Of the right side, and of the result."""
    inner: float = Field(default=0.0, ge=0)
    """That is summed over."""


class SplitHost(Section):
    """Host seconds that a layer's forward and backward pass take beyond those of its operations:
    what Python does around each."""

    alone: Latency = 0.0
    """Where the layer is not split."""
    tensor: Latency = 0.0
    """And beyond that where its matrices are spread over tensor ranks."""
    shard: Latency = 0.0
    """And where its parameters are gathered before each pass, and gradients scattered after."""

    def times(self, factor: float) -> SplitHost:
        """Each of them so many times as long."""
        return SplitHost(**{name: value * factor for name, value in self.model_dump().items()})


class LayerHost(Section):
    """Host time around a layer by what is computed again, which is gone through once more, wrappers
    and all. Measured with the wrappers that runs use; 0 where nothing was."""

    none: SplitHost = SplitHost()
    """Nothing is."""
    selective: SplitHost = SplitHost()
    """All but products: each operation is looked at."""
    full: SplitHost = SplitHost()
    """All of it; the operations of the second forward pass themselves are counted elsewhere."""

    def times(self, factor: float) -> LayerHost:
        """Each of them so many times as long."""
        return LayerHost(
            none=self.none.times(factor),
            selective=self.selective.times(factor),
            full=self.full.times(factor),
        )


class Refit(Section):
    """What real runs took over what was predicted from primitives; 1 where none was looked at.

    ``axis calibrate --from-runs`` writes it. Seconds are multiplied by it.
    """

    computation: float = Field(default=1.0, gt=0)
    """For seconds of products, attention, kernels, launches and the optimizer."""
    communication: float = Field(default=1.0, gt=0)
    """For seconds of all collectives and messages."""
    num_runs: int = Field(default=0, ge=0)
    """Runs that it rests on."""


class Disk(Section):
    """The storage of runs, as one worker sees it."""

    write: Bandwidth
    """Bytes per second of a durable write."""
    read: Bandwidth
    """Bytes per second of reading."""


class RayCosts(Section):
    """What Ray itself takes."""

    actor_start: Latency
    """From asking for an actor to its first answer."""
    placement_group: Latency
    """From asking for a placement group to having it."""
    transfer: LinkFile
    """An object from one process to another through the object store."""


Collective = Literal["broadcast", "all_reduce", "all_gather", "reduce_scatter", "all_to_all"]


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
    half_lengths: HalfLengths | None = None
    """Measured loss of small products; by tiles and waves where nothing was measured."""
    processors: int = Field(default=1, ge=1)
    """Units that each compute one tile of a product: streaming multiprocessors, or cores."""
    flash: FlashFile
    """Efficiency of fused attention."""
    memory_bytes: Size
    """What an allocator can have at most."""
    memory_bandwidth: Bandwidth
    """Bytes per second to device memory."""
    memory_efficiency: float = Field(default=MEMORY_EFFICIENCY, gt=0)
    """Share of it that elementwise kernels reach, by the bytes that the planner counts; above 1
    where caches hold what they read."""
    host_seconds_per_operation: Latency = 35e-6
    """Host time to launch one operation eagerly in the forward pass."""
    layer_host: LayerHost = LayerHost()
    """Host time in addition where layers are split or recomputed."""
    spread: float = Field(default=0.0, ge=0)
    """Standard deviation of what ranks take for the same work at the same time, as a share of it; 0
    where nobody measured it. In each step all wait for the slowest."""
    per_node: int = Field(default=8, ge=1)
    """Devices that share a node and its links."""
    intra: LinkFile
    """Between devices of a node; ``bandwidth`` is per device."""
    inter: LinkFile
    """Between nodes; ``bandwidth`` is per node."""
    collectives: Mapping[Collective, LinkFile] = {}
    """Measured within a node, by collective; ``intra`` for those that were not."""
    not_measured: Mapping[str, str] = {}
    """Fields that a measured file had to take from elsewhere, each with where from and why."""
    refit: Refit = Refit()
    """What real runs said of the predictions."""
    disk: Disk | None = None
    """The storage of runs, where it was measured."""
    ray: RayCosts | None = None
    """Ray's own costs, where they were measured."""
    price_per_hour: float | None = Field(default=None, gt=0)
    """Price of one device for one hour, in the currency of the file; nothing where unknown."""

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def streaming_rate(self) -> float:
        """Bytes per second that elementwise kernels move."""
        return self.memory_bandwidth * self.memory_efficiency

    def sharing(self, workers: float) -> Device:
        """The device as each of ``workers`` sees it who share it: computing and memory alike, and
        on a processor launches and transfers, too, which its cores carry out."""
        if workers <= 1:
            return self
        shared = self._times(1.0 / workers)
        if self.kind != "cpu":
            return shared
        slower = self.refit.communication * workers
        refit = self.refit.model_copy(update={"communication": slower})
        host = {
            "host_seconds_per_operation": self.host_seconds_per_operation * workers,
            "layer_host": self.layer_host.times(workers),
        }
        return shared.model_copy(update={"refit": refit, **host})

    def joined(self, count: int) -> Device:
        """``count`` of them as one: a worker with so many threads on as many cores."""
        if count <= 1:
            return self
        more = self._times(float(count))
        return more.model_copy(update={"memory_bytes": self.memory_bytes * count})

    def _times(self, factor: float) -> Device:
        scaled = {
            "peak_flops": {name: rate * factor for name, rate in self.peak_flops.items()},
            "matmul_ceiling": {name: rate * factor for name, rate in self.matmul_ceiling.items()},
            "memory_bandwidth": self.memory_bandwidth * factor,
        }
        return self.model_copy(update=scaled)

    def peak(self, precision: str) -> float:
        """Dense operations per second; a precision the device lacks runs as the next wider one."""
        return self.peak_flops[self.precision_used(precision)]

    def precision_used(self, asked: str) -> str:
        """In which precision products are computed where ``asked`` is; ``KeyError`` for none."""
        for candidate in _FALLBACK[asked]:
            if candidate in self.peak_flops:
                return candidate
        raise KeyError(asked)

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
