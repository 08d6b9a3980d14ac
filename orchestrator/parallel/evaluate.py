"""How good is the model on samples it has not seen?

The held-out samples are split over the workers; the result is their exact mean, the same on every
worker and for every number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from orchestrator.job import Batch, Job
from orchestrator.parallel.step import check_loss
from orchestrator.parallel.world import World, seed_all

Ids = npt.NDArray[np.int64]
Sums = dict[str, tuple[float, float]]
"""For each metric the sum and the weight it is to be divided by."""


def evaluate(
    job: Job,
    model: nn.Module,
    ids: Ids,
    take: Callable[[Ids], Batch],
    batch_size: int,
    world: World,
    bf16: bool = False,
) -> dict[str, float]:
    """``val_loss`` and ``val_<metric>`` over the samples ``ids``; all workers call it together.

    ``take`` reads samples onto the device. The model is in evaluation mode meanwhile and back in
    training mode after. The loss is averaged over its weights, metrics over samples.
    """
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
            sums = _evaluate_share(
                job, model, np.array_split(ids, world.size)[world.rank], take, batch_size
            )
    finally:
        model.train()
    return _means(world.gather(sums))


def _evaluate_share(
    job: Job, model: nn.Module, ids: Ids, take: Callable[[Ids], Batch], batch_size: int
) -> Sums:
    sums: Sums = {}
    for part in _parts(ids, batch_size):
        batch, count = take(part), float(len(part))
        seed_all(int(part[0]))  # a Job whose loss draws numbers draws the same ones each time
        loss, weight = check_loss(job.loss(model, batch))
        if weight is None:
            _add(sums, "loss", float(loss) * count, count)
        else:
            _add(sums, "loss", float(loss), float(weight))
        for name, value in job.metrics(model, batch).items():
            _add(sums, name, float(value) * count, count)
    return sums


def _parts(ids: Ids, size: int) -> Iterator[Ids]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _add(sums: Sums, name: str, total: float, weight: float) -> None:
    before = sums.get(name, (0.0, 0.0))
    sums[name] = (before[0] + total, before[1] + weight)


def _means(shares: list[Sums]) -> dict[str, float]:
    merged: Sums = {}
    for share in shares:
        for name, (total, weight) in share.items():
            _add(merged, name, total, weight)
    return {f"val_{name}": total / weight for name, (total, weight) in merged.items() if weight > 0}
