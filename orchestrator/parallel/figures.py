"""What did a step come to, over all workers?

Loss, weight and the wish to stop travel together in one small all-reduce that is started before
the last backward pass. Reading them is put off: on an accelerator by one step, so that its queue
never runs dry.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.parallel.world import World


@dataclass(frozen=True)
class StepFigures:
    """Figures of a step, equal on every worker: the mean loss over ``weight``, …"""

    loss: float
    weight: float
    gradient_norm: float
    stop: bool


class Figures:
    """Figures that are being computed, then shared, then read, in this order."""

    def __init__(self, world: World, stop: bool) -> None:
        self.world = world
        # In double precision, so that sums do not depend on how samples are dealt out.
        self.sums = torch.zeros(3, dtype=torch.float64, device=world.device)
        if stop:
            self.sums[2] = 1.0
        self.gradient_norm: Tensor | None = None
        self.work: torch.distributed.Work | None = None
        self.event: torch.cuda.Event | None = None
        self.host = self.sums

    def add(self, loss: Tensor, num_samples: int, weight: Tensor | None) -> None:
        """Count one micro-batch: a mean over samples, or a total with its weight."""
        loss = loss.detach().double()
        if weight is None:
            self.sums[0] += loss * num_samples
            self.sums[1] += num_samples
        else:
            self.sums[0] += loss
            self.sums[1] += weight

    def share(self) -> None:
        """Start adding up over the workers."""
        self.work = self.world.sum_async(self.sums)

    def weight(self) -> Tensor:
        """The weight of the global batch. On a CPU this waits for the other workers."""
        self._arrive()
        return self.sums[1]

    def depart(self) -> None:
        """Start copying to the host, behind everything this step has queued on the device."""
        self._arrive()
        norm = self.gradient_norm
        values = self.sums if norm is None else torch.cat([self.sums, norm.double().reshape(1)])
        self.host = values
        if self.world.device.type != "cuda":
            return
        self.host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self.host.copy_(values, non_blocking=True)
        self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.event.record()

    def read(self) -> StepFigures:
        """Wait for the figures."""
        if self.event is not None:
            self.event.synchronize()
        total, weight, stop, norm = self.host.tolist()
        return StepFigures(total / weight if weight else 0.0, weight, norm, stop > 0)

    def _arrive(self) -> None:
        if self.work is not None:
            self.work.wait()
            self.work = None
