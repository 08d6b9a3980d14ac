"""The loop one would write by hand to survive losses: DDP, and a checkpoint every so many steps.

Used under ``torchrun --max-restarts`` and under elastic Ray Train alike. The process group is there
already. What happened when is appended to a trace: a line when a worker begins, one for each step.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.by_hand.settings import InFile
from benchmarks.by_hand.shards import ShardDataset
from jobs.gpt import GPT


@dataclass(frozen=True)
class Settings(InFile):
    """What is trained; ``folder`` receives the checkpoint and the trace."""

    store: str
    folder: str
    options: dict[str, Any]
    global_batch: int
    save_every: int
    lr: float


def train(settings: Settings) -> None:
    """Train as one worker, until somebody ends it."""
    rank, size = dist.get_rank(), dist.get_world_size()
    folder = Path(settings.folder)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    job = GPT(**settings.options)
    model = DistributedDataParallel(job.model(), gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, fused=True)
    step = _load(folder / "checkpoint.pt", model, optimizer)
    _trace(folder, kind="worker", rank=rank, pid=os.getpid(), size=size)
    dataset = ShardDataset(Path(settings.store))
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, size, rank, drop_last=True)
    loader = DataLoader(dataset, settings.global_batch // size, sampler=sampler, drop_last=True)
    for epoch in count():
        sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad(set_to_none=True)
            total, weight = job.loss(model, batch)
            (total / weight).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if rank == 0:
                _trace(folder, kind="step", step=step)
            if rank == 0 and step % settings.save_every == 0:
                _save(folder / "checkpoint.pt", model, optimizer, step)


def _save(path: Path, model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    part = path.with_suffix(".part")
    state = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, part)
    part.rename(path)


def _load(path: Path, model: Any, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.module.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _trace(folder: Path, **what: Any) -> None:
    with (folder / "trace.jsonl").open("a") as file:
        file.write(json.dumps({"at_seconds": time.time(), **what}) + "\n")
