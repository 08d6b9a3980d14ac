"""How good is the model on samples it has not seen?

The held-out samples are split over the ranks that see different ones; the result is their exact
mean, the same on every worker and on every mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from orchestrator.job import Batch
from orchestrator.parallel.engine import Engine, Sums
from orchestrator.parallel.layout import Layout

Ids = npt.NDArray[np.int64]


def evaluate(
    engine: Engine, ids: Ids, take: Callable[[Ids], Batch], batch_size: int, layout: Layout
) -> dict[str, float]:
    """``val_loss`` and ``val_<metric>`` over the samples ``ids``; all workers call it together.

    ``take`` reads samples onto the device. The loss is averaged over its weights, metrics over
    samples, or over theirs.
    """
    mesh, place = layout.mesh, layout.coordinate
    shares = np.array_split(ids, mesh.batch_degree)
    mine = shares[place["replicate"] * mesh.shard + place["shard"]]
    sums: Sums = {}
    for part, count in _rounds(mine, len(shares[0]), batch_size, layout):
        # A Job whose loss draws numbers draws the same ones each time.
        merge(sums, engine.evaluate(take(part), count, seed=int(part[0])))
    # Ranks of a tensor group tell the same; one of them is enough.
    gathered = layout.world.gather(sums if place["tensor"] == 0 else {})
    return _means(gathered)


def _rounds(ids: Ids, longest: int, size: int, layout: Layout) -> Iterator[tuple[Ids, int]]:
    """Batches of at most ``size`` ids with the number that counts.

    Where ranks exchange parts of the model in each forward pass, all take as many rounds as the
    one with the most samples; pipelines moreover need batches of one size.
    """
    mesh = layout.mesh
    together = layout.world.size > mesh.replicate or mesh.expert > 1
    rounds = -(-longest // size) if together else -(-len(ids) // size)
    filler = ids[:1] if len(ids) else np.zeros(1, dtype=np.int64)
    for start in range(0, rounds * size, size):
        part = ids[start : start + size]
        missing = size - len(part) if mesh.pipeline > 1 else int(len(part) == 0)
        yield np.concatenate([part, np.repeat(filler, missing)]), len(part)


def merge(sums: Sums, more: Sums) -> None:
    """Add totals and weights up, by name."""
    for name, (total, weight) in more.items():
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + weight)


def _means(shares: list[Sums]) -> dict[str, float]:
    merged: Sums = {}
    for share in shares:
        merge(merged, share)
    return {f"val_{name}": total / weight for name, (total, weight) in merged.items() if weight > 0}
