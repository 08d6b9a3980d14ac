"""Who am I among the workers, and on which device do I compute?

Joins and leaves process groups where nobody else does (``torchrun``); under Ray the group is
there already and is only looked at. Knows nothing about models or batches.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from orchestrator.errors import InfeasibleError

COLLECTIVE_TIMEOUT_SECONDS = 600.0
"""How long a worker waits in a collective for the others before it gives up."""


@dataclass(frozen=True)
class World:
    """This worker's place: ``rank`` of ``size``, computing on ``device``."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks for all of them."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """One picklable value of every worker, by rank, on every worker. A barrier."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The first worker's value, on every worker. A barrier."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum_async(self, tensor: torch.Tensor) -> dist.Work | None:
        """Start adding ``tensor`` over all workers, in place; ``None`` where there is one."""
        if self.size == 1:
            return None
        work: dist.Work = dist.all_reduce(tensor, async_op=True)
        return work


def current_world(device: str | torch.device = "cpu") -> World:
    """The world as the process group says it is; one worker where there is no group."""
    if not dist.is_initialized():
        return World(0, 1, torch.device(device))
    return World(dist.get_rank(), dist.get_world_size(), torch.device(device))


def choose_device(num_gpus: float, local_rank: int = 0) -> str:
    """``cuda:<local_rank>`` where the plan gives a worker a GPU, else ``cpu``.

    Raises ``InfeasibleError`` where the plan asks for a GPU and this machine lacks it.
    """
    if num_gpus <= 0:
        return "cpu"
    if torch.cuda.device_count() <= local_rank:
        raise InfeasibleError(
            f"training.resources.gpu is {num_gpus:g}, but worker {local_rank} of this machine "
            f"sees {torch.cuda.device_count()} CUDA devices; training.resources.gpu=0 trains on CPU"
        )
    return f"cuda:{local_rank}"


@contextmanager
def joined_world(
    num_gpus: float, timeout_seconds: float = COLLECTIVE_TIMEOUT_SECONDS
) -> Iterator[World]:
    """Join the group that ``torchrun`` describes in the environment; leave it at the end.

    Without that environment the world is this one process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(num_gpus, int(os.environ.get("LOCAL_RANK", "0")))
    if device != "cpu":
        torch.cuda.set_device(device)
    if size == 1:
        yield World(0, 1, torch.device(device))
        return
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    try:
        yield current_world(device)
    finally:
        dist.destroy_process_group()


def seed_all(seed: int, *place: int) -> None:
    """Seed torch, numpy and ``random`` by ``seed`` and a place in the run.

    Seeding anew for each micro-batch makes dropout and augmentation a function of which samples
    are computed, not of who computes them or since when: no generator state has to be saved, and
    it is the same for every number of workers.
    """
    words = np.random.SeedSequence((seed, *place)).generate_state(2, np.uint32)
    mixed = int(words[0]) << 32 | int(words[1])
    # Not torch.manual_seed, which takes 0.1 ms to look for devices that are not in use.
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed)
    np.random.seed(words)
    random.seed(mixed)
