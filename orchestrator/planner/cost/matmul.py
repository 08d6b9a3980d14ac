"""How long does a matrix product take on a device?

A roofline whose ceiling depends on the shape: tiles at the edges, the last wave of tiles over
the processors, and the ends of the inner loop cost time that does no work.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

from orchestrator.planner.cost.constants import INNER_HALF, MEMORY_EFFICIENCY, SPLIT_K, TILES
from orchestrator.planner.cost.device import Device


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


def product_seconds(
    product: Product, device: Device, precision: str, bytes_per_element: int
) -> float:
    """Seconds of one product: the slower of arithmetic and memory traffic."""
    rate = device.ceiling(precision) * device.sustained
    arithmetic = product.flops / (rate * shape_efficiency(product, device.processors))
    rows, columns, inner, copies = product
    elements = copies * (rows * inner + inner * columns + rows * columns)
    memory = elements * bytes_per_element / (device.memory_bandwidth * MEMORY_EFFICIENCY)
    return max(arithmetic, memory)
