"""The training loop one would write by hand: plain DDP, and nothing else.

Used under ``torchrun`` and under Ray Train alike. The process group is there already.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.by_hand.settings import InFile
from benchmarks.by_hand.shards import ShardDataset
from jobs.gpt import GPT

LOG_EVERY = 10


@dataclass(frozen=True)
class Settings(InFile):
    """What is trained. ``output`` receives ``{"step_times": …, "loss": …}`` of rank 0."""

    store: str
    output: str
    options: dict[str, Any]
    global_batch: int
    steps: int
    lr: float
    warmup: int
    report_until: int = 0
    """Under Ray Train: the last step that is reported with ``ray.train.report``."""


def train(settings: Settings, log: Callable[[dict[str, float]], None]) -> None:
    """Train as one worker; ``log`` is called on every worker every ten steps."""
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    job = GPT(**settings.options)
    model = DistributedDataParallel(job.model(), gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(settings, step + 1))
    dataset = ShardDataset(Path(settings.store))
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, size, rank, drop_last=True)
    # Without worker processes: two of them per rank would take turns with it on two cores, and
    # a batch is read in a thousandth of a step.
    loader = DataLoader(dataset, settings.global_batch // size, sampler=sampler, drop_last=True)
    times = []
    loss = torch.zeros(())
    for step, batch in enumerate(islice(_batches(loader, sampler), settings.steps), start=1):
        optimizer.zero_grad(set_to_none=True)
        total, weight = job.loss(model, batch)
        loss = total / weight
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        times.append(time.time())
        if step % LOG_EVERY == 0:
            log({"step": step, "loss": loss.item(), "lr": schedule.get_last_lr()[0]})
    if rank == 0:
        result = {"step_times": times, "loss": loss.item()}
        Path(settings.output).write_text(json.dumps(result))


def _batches(loader: DataLoader[Any], sampler: DistributedSampler[Any]) -> Iterator[Any]:
    for epoch in count():
        sampler.set_epoch(epoch)
        yield from loader


def _rate(settings: Settings, step: int) -> float:
    if step < settings.warmup:
        return step / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * min(share, 1.0))) / 2
