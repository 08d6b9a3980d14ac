"""Jobs that take their time at one place, and what the watchdog of each rank makes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch.distributed as dist
from small_runs import MemoryChannel, plan_of, run_here
from torch import Tensor, nn

from jobs.digits import Digits
from orchestrator.job import Batch
from orchestrator.parallel.channel import StuckReport
from orchestrator.storage import Storage


class Slow(Digits):
    """Sleeps once, for ``seconds``: on the last rank, in its ``at``-th loss or in ``metrics``."""

    def __init__(self, at: int, seconds: float, where: str = "loss") -> None:
        super().__init__(channels=4)
        self.at, self.seconds, self.where = at, seconds, where
        self.calls = 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        if model.training:
            self.calls += 1
            self._sleep("loss")
        return super().loss(model, batch)

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        self._sleep("metrics")
        return super().metrics(model, batch)

    def _sleep(self, where: str) -> None:
        last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
        if self.where == where and self.calls == self.at and last:
            self.calls += 1
            time.sleep(self.seconds)  # takes its time here


class AskingChannel(MemoryChannel):
    """Asks where everybody is, once somebody on this rank is stuck or ``always``."""

    def __init__(self, run: Storage, always: bool) -> None:
        super().__init__(run)
        self.always = always

    def whereabouts_wanted(self) -> bool:
        return self.always


def slow_case(
    text: str, overrides: tuple[str, ...], store: str, run: str, job: Slow, asking: bool = False
) -> list[dict[str, Any]]:
    """What this rank's watchdog reported; the run is not ended for it."""
    plan = plan_of(text, *overrides)
    channel = AskingChannel(Storage.open(run), asking)
    run_here(plan, job, store, run, channel=channel)
    reports: list[StuckReport] = channel.reports
    return [asdict(report) for report in reports]
