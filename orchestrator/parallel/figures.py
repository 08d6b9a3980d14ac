"""What did a step come to, over all workers?

Loss, weight and the wish to stop travel together in one small all-reduce that is started before
the last backward pass. Reading them is put off: on an accelerator by one step, so that its queue
never runs dry.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from orchestrator.parallel.guard import bad_flag
from orchestrator.parallel.layout import Layout


@dataclass(frozen=True)
class Wishes:
    """What a worker wants; one worker's wish is granted to all, after the same step."""

    stop: bool = False
    """Leave the loop, with a checkpoint."""
    save: bool = False
    """Take a checkpoint."""
    leave: bool = False
    """Leave the loop with the next checkpoint that is due anyway."""
    give_up: bool = False
    """Something failed beside the loop (a checkpoint could not be written): ask what it was."""


@dataclass(frozen=True)
class StepFigures:
    """Figures of a step, equal on every worker: the mean loss over ``weight``, …"""

    loss: float
    weight: float
    gradient_norm: float
    wishes: Wishes
    skipped: bool = False
    """Loss or gradient norm was infinite or NaN, so the step was not taken."""


class Figures:
    """Figures that are being computed, then shared, then read, in this order."""

    def __init__(self, layout: Layout, wishes: Wishes) -> None:
        self.world, self.mesh = layout.world, layout.mesh
        # In double precision, so that sums do not depend on how samples are dealt out.
        values = [0.0, 0.0, *(float(wish) for wish in astuple(wishes))]
        self.sums = torch.tensor(values, dtype=torch.float64, device=self.world.device)
        self.gradient_norm: Tensor | None = None
        self.bad = torch.zeros((), device=self.world.device)
        self.num_added = 0
        self.work: torch.distributed.Work | None = None
        self.event: torch.cuda.Event | None = None
        self.host = self.sums

    def add(self, loss: Tensor, num_samples: int, weight: Tensor | None) -> None:
        """Count one micro-batch: a mean over samples, or a total with its weight.

        Ranks of a tensor group tell the same, so each tells a share. Those of a context group
        have the means, or the totals, of their pieces of the same samples.
        """
        self.num_added += 1
        loss = loss.detach().double()
        if weight is None:
            samples = num_samples / (self.mesh.tensor * self.mesh.context)
            self.sums[0] += loss * samples
            self.sums[1] += samples
        else:
            self.sums[0] += loss / self.mesh.tensor
            self.sums[1] += weight / self.mesh.tensor

    def share(self) -> None:
        """Start adding up over the workers. Every rank must call it once."""
        self.work = self.world.sum_async(self.sums)

    def weight(self) -> Tensor:
        """The weight of the global batch. On a CPU this waits for the other workers."""
        self._arrive()
        return self.sums[1]

    def judge(self) -> Tensor:
        """1 where the step is not to be taken, else 0: equal on all workers, which see the same
        loss and the same norm. Not waited for on an accelerator."""
        self._arrive()
        assert self.gradient_norm is not None, "the norm comes first"
        total, weight = self.sums[0], self.sums[1]
        loss = torch.where(weight == 0, 0.0, total / weight)
        self.bad = bad_flag(loss, self.gradient_norm)
        return self.bad

    def depart(self) -> None:
        """Start copying to the host, behind everything this step has queued on the device."""
        self._arrive()
        assert self.gradient_norm is not None, "the norm comes first"
        values = torch.cat([self.sums, torch.stack([self.gradient_norm, self.bad]).double()])
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
        total, weight, *wished, norm, bad = self.host.tolist()
        wishes = Wishes(*(number > 0 for number in wished))
        return StepFigures(total / weight if weight else 0.0, weight, norm, wishes, bad > 0)

    def _arrive(self) -> None:
        if self.work is not None:
            self.work.wait()
            self.work = None
