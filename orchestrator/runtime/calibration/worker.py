"""One measuring worker: an actor in a process of its own, on a core or a device of its own."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import ray

from orchestrator.planner.calibration.timings import (
    DiskTimings,
    ExchangeTiming,
    LayerTiming,
    WorkerTimings,
)

GROUP_SECONDS = 60.0


class MeasuringWorker:
    """Rank ``rank`` of ``size``; one of them is asked where the others are to meet it."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def place(self) -> tuple[str, str, int]:
        """The node's id, its address, and a port that was free a moment ago."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        return (
            str(ray.get_runtime_context().get_node_id()),
            str(ray.util.get_node_ip_address()),
            port,
        )

    def compute(self) -> tuple[WorkerTimings, str]:
        """What this worker computes in which time, and on what."""
        import torch

        from orchestrator.runtime.calibration.kernels import measure_worker

        torch.set_num_threads(1)
        device = self._device()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        return measure_worker(device), name

    def memory_bytes(self) -> int:
        """Of the device; of a processor all of the node's."""
        import torch

        device = self._device()
        if device.type == "cuda":
            return int(torch.cuda.get_device_properties(device).total_memory)
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def join(self, address: str, port: int) -> None:
        """Form the process group. All ranks together."""
        import torch
        import torch.distributed as dist

        device = self._device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"tcp://{address}:{port}",
            rank=self._rank,
            world_size=self._size,
            timeout=timedelta(seconds=GROUP_SECONDS),
        )

    def exchanges(self, ranks: list[int]) -> tuple[ExchangeTiming, ...]:
        """Time collectives among ``ranks``. All ranks of the world call it together."""
        import torch
        import torch.distributed as dist

        from orchestrator.runtime.calibration.exchanges import measure_exchanges

        torch.set_num_threads(1)
        group: Any = dist.new_group(ranks, timeout=timedelta(seconds=GROUP_SECONDS))
        if self._rank not in ranks:
            return ()
        return measure_exchanges(group, self._device())

    def layers(self, ranks: list[int]) -> tuple[LayerTiming, ...]:
        """What splitting a layer over ``ranks``, and computing it again, take of the host. All
        ranks of the world call it together."""
        import torch
        import torch.distributed as dist

        from orchestrator.runtime.calibration.layers import measure_layers

        torch.set_num_threads(1)
        group: Any = None
        if len(ranks) > 1:
            group = dist.new_group(ranks, timeout=timedelta(seconds=GROUP_SECONDS))
        return measure_layers(group) if self._rank in ranks else ()

    def pace(self) -> tuple[tuple[float, ...], ...]:
        """What each worker takes for the same work, step after step. All of them together."""
        import torch
        import torch.distributed as dist

        from orchestrator.runtime.calibration.pace import measure_pace

        torch.set_num_threads(1)
        world: Any = dist.group.WORLD
        return measure_pace(world)

    def disk(self, uri: str) -> DiskTimings:
        """What the storage of runs takes, while the others write to it, too."""
        from orchestrator.runtime.calibration.disk import measure_disk

        return measure_disk(uri)

    def take(self, value: bytes) -> int:
        """An object has arrived."""
        return len(value)

    def _device(self) -> Any:
        import torch

        return torch.device("cuda:0" if ray.get_gpu_ids() else "cpu")


def _processor() -> str:
    """The processor's name, as the system gives it."""
    import platform
    from pathlib import Path

    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
