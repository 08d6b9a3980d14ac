"""How long does a matrix product take on a device?

A roofline whose ceiling depends on the shape: tiles at the edges, the last wave of tiles over
the processors, and the ends of the inner loop cost time that does no work.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

from orchestrator.planner.cost.constants import INNER_HALF, SPLIT_K, TILES
from orchestrator.planner.cost.device import Device, HalfLengths


class Product(NamedTuple):
    """``copies`` independent products of [rows, inner] with [inner, columns]."""

    rows: int
    columns: int
    inner: int
    copies: int = 1

    @property
    def flops(self) -> float:
        """Two operations for each multiplication and addition."""
        return 2.0 * self.rows * self.columns * self.inner * self.copies

    @property
    def backward(self) -> tuple[Product, Product]:
        """The products of the gradient: to the input, and to the weight."""
        rows, columns, inner, copies = self
        return Product(rows, inner, columns, copies), Product(inner, columns, rows, copies)


@lru_cache(maxsize=65536)
def shape_efficiency(product: Product, processors: int) -> float:
    """Share of a device's ceiling that the shape allows, in (0, 1].

    For each tile size and each cut of the inner dimension: waves of tiles over the processors,
    each as long as a full tile; the best choice counts, as a library's heuristic would take.
    Source: NVIDIA, "Matrix Multiplication Background User's Guide", tile and wave quantization.
    """
    rows, columns, inner, copies = product
    ideal = rows * columns * inner * copies / processors
    best = 0.0
    for tile_rows, tile_columns, rate in TILES:
        tiles = ceil(rows / tile_rows) * ceil(columns / tile_columns) * copies
        for split in SPLIT_K:
            waves = ceil(tiles * split / processors)
            work = waves * tile_rows * tile_columns * (inner / split + INNER_HALF)
            best = max(best, rate * ideal / work)
            if tiles * split >= 2 * processors:
                break
    return min(1.0, best)


def measured_efficiency(product: Product, half: HalfLengths) -> float:
    """Share of the ceiling on a device whose half lengths were measured, in (0, 1].

    A side of length n reaches n/(n + n½) of the full rate (Hockney and Jesshope 1981).
    """
    rows, columns, inner, _ = product
    lost = (1 + half.rows / rows) * (1 + half.columns / columns) * (1 + half.inner / inner)
    return 1.0 / lost


def product_seconds(
    product: Product, device: Device, precision: str, bytes_per_element: int
) -> float:
    """Seconds of one product: the slower of arithmetic and memory traffic."""
    rate = device.ceiling(precision) * device.sustained
    half = device.half_lengths
    efficiency = (
        shape_efficiency(product, device.processors)
        if half is None
        else measured_efficiency(product, half)
    )
    arithmetic = product.flops / (rate * efficiency)
    rows, columns, inner, copies = product
    elements = copies * (rows * inner + inner * columns + rows * columns)
    memory = elements * bytes_per_element / device.streaming_rate
    return max(arithmetic, memory)
