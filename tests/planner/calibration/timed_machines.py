"""Machines whose every number is known, as a measurement would have timed them."""

from __future__ import annotations

from orchestrator.planner.calibration.timings import (
    AttentionTiming,
    DiskTimings,
    ExchangeTiming,
    KernelTiming,
    LayerTiming,
    ProductTiming,
    RayTimings,
    Timings,
    WorkerTimings,
)
from orchestrator.planner.cost import collectives
from orchestrator.planner.cost.device import Collective
from orchestrator.planner.cost.groups import LAUNCH_SECONDS
from orchestrator.planner.cost.passes import head_efficiency

RATE = 100e9
HALF = (20.0, 4.0, 16.0)
ALPHA, BETA = 100e-6, 0.5e-9
SIZES = (4096, 65536, 2**20, 2**23)
SHAPES = ((64, 64, 64), (256, 256, 256), (2048, 128, 128), (128, 512, 2048), (1024, 64, 192))

PACE = ((0.10, 0.12), (0.11, 0.11), (0.12, 0.10), (0.15, 0.10))
"""The slower of two takes 1/11 more than their mean in the median of the steps."""

LAYERS = (
    LayerTiming("none", "alone", 1e-3, 0.4e-3),
    LayerTiming("none", "tensor", 6e-3, 3e-3),
    LayerTiming("none", "shard", 3e-3, 1e-3),
    LayerTiming("selective", "alone", 5e-3, 1e-3),
    LayerTiming("selective", "tensor", 14e-3, 1e-3),
    LayerTiming("selective", "shard", 8e-3, 1e-3),
    LayerTiming("full", "alone", 2e-3, 0.5e-3),
    LayerTiming("full", "tensor", 9e-3, 0.5e-3),
)
"""Milliseconds more than plain: tensor 5, shard 2; recomputed 4, then tensor 9 and shard 3; fully
0.6 besides the second forward pass, then tensor 7."""


def product(shape: tuple[int, int, int], precision: str = "fp32") -> ProductTiming:
    rows, columns, inner = shape
    share = 1.0
    for side, half in zip(shape, HALF, strict=True):
        share *= side / (side + half)
    rate = RATE * (4 if precision == "bf16" else 1)
    return ProductTiming(rows, columns, inner, precision, 2 * rows * columns * inner / rate / share)  # type: ignore[arg-type]


def exchange(collective: Collective, ranks: int, size: int, alpha=ALPHA, beta=BETA):  # type: ignore[no-untyped-def]
    times = {
        "broadcast": collectives.broadcast,
        "all_reduce": collectives.all_reduce_ring,
        "all_gather": collectives.all_gather,
        "reduce_scatter": collectives.reduce_scatter,
        "all_to_all": collectives.all_to_all,
    }
    launch = 0.0 if collective == "broadcast" else LAUNCH_SECONDS
    return ExchangeTiming(
        collective, ranks, size, launch + times[collective](size, ranks, alpha, beta)
    )


def worker() -> WorkerTimings:
    """At head size 64 attention runs at 0.4 of the rate of head size 128."""
    full = RATE * head_efficiency(64)
    flops = 2.0 * 256 * 256 * 64 * 8
    attention = AttentionTiming(8, 256, 64, "fp32", flops / full / 0.4, 2.5 * flops / full / 0.3)
    return WorkerTimings(
        products=(
            *(product(shape) for shape in SHAPES),
            *(product(shape, "bf16") for shape in SHAPES[:2]),
        ),
        attention=(attention,),
        kernels=(KernelTiming(1e9, 0.1), KernelTiming(2e9, 0.2)),
        memory_bytes_per_second=20e9,
        operation_seconds=2e-6,
    )


def machine(num_nodes: int = 1) -> Timings:
    """Two cores a node; between nodes ten times as slow."""
    names: tuple[Collective, ...] = (
        "broadcast",
        "all_reduce",
        "all_gather",
        "reduce_scatter",
        "all_to_all",
    )
    within = tuple(exchange(name, 2, size) for name in names for size in SIZES)
    between = tuple(
        exchange("all_reduce", num_nodes, size, 10 * ALPHA, 10 * BETA) for size in SIZES
    )
    return Timings(
        kind="cpu",
        model_name="A Processor (R) of 2 cores",
        per_node=2,
        num_nodes=num_nodes,
        num_workers=2 * num_nodes,
        memory_bytes=4 * 2**30,
        workers=tuple(worker() for _ in range(2 * num_nodes)),
        within=within,
        between=between if num_nodes > 1 else (),
        layers=LAYERS,
        pace=PACE,
        ray=RayTimings(0.5, 0.01, ((10**4, 2.01e-3), (10**6, 3e-3), (10**7, 12e-3))),
        disk=DiskTimings(300e6, 500e6),
        versions={"torch": "2.13"},
    )
