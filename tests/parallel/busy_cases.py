"""Jobs of which one rank has more to do, and what each rank says of its own work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from small_runs import MemoryChannel, plan_of, run_here
from torch import Tensor, nn

from jobs.digits import Digits
from jobs.gpt import GPT
from orchestrator.job import Batch
from orchestrator.storage import Storage


class Uneven(GPT):
    """Each micro-batch takes ``seconds`` of each rank's own; from the one numbered ``since`` on
    ``slow`` times as much on rank ``on``.

    ``how``: ``computes`` in torch, in ``python``, or ``sleeps``.
    """

    def __init__(
        self, how: str, seconds: float, on: int, slow: float, since: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.since, self.calls = since, 0
        self.how, self.seconds, self.on, self.slow = how, seconds, on, slow
        self.square = torch.rand(96, 96)

    def prepare(self, batch: Batch) -> Batch:
        rank = dist.get_rank() if dist.is_initialized() else 0
        is_slow = rank == self.on and self.calls >= self.since
        self.calls += 1
        self._work(self.seconds * (self.slow if is_slow else 1.0))
        return super().prepare(batch)

    def _work(self, seconds: float) -> None:
        if self.how == "sleeps":
            time.sleep(seconds)
            return
        # By the thread's own clock: on a machine with fewer processors than ranks the same work
        # takes longer, but is the same work.
        begun, count = time.thread_time(), 0
        while time.thread_time() - begun < seconds:
            if self.how == "computes":
                torch.mm(self.square, self.square)
            else:
                count += sum(range(1000))


def busy_case(
    text: str, overrides: tuple[str, ...], store: str, run: str, options: dict[str, Any]
) -> list[tuple[float, float | None, float, float]]:
    """For each step of this rank: its seconds, those of own work, those of waiting for samples,
    and those of own work that were guessed."""
    plan = plan_of(text, *overrides)
    channel = MemoryChannel(Storage.open(run))
    run_here(plan, Uneven(**options, **plan.options), store, run, channel=channel)
    assert [work.step for work in channel.works] == [record.step for record in channel.records]
    return [tuple(work[1:]) for work in channel.works]


@dataclass
class Frozen:
    """Stops the process of one ``rank`` in its ``at``-th loss, for ``seconds``."""

    rank: int
    at: int
    seconds: float


class Freezing(Digits):
    """A small network whose process is stopped once."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__(channels=4)
        self.frozen, self.calls = frozen, 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.frozen.at and dist.get_rank() == self.frozen.rank:
            wake = f"sleep {self.frozen.seconds}; kill -CONT {os.getpid()}"
            with subprocess.Popen(["sh", "-c", wake]):
                os.kill(os.getpid(), signal.SIGSTOP)
        return super().loss(model, batch)


def frozen_case(
    text: str, overrides: tuple[str, ...], store: str, run: str, frozen: Frozen
) -> list[tuple[float, float | None]]:
    """For each step of this rank: its seconds, and those of own work."""
    plan = plan_of(text, *overrides)
    channel = MemoryChannel(Storage.open(run))
    run_here(plan, Freezing(frozen), store, run, channel=channel)
    return [(work.step_seconds, work.busy_seconds) for work in channel.works]
