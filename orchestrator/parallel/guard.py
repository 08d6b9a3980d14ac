"""What if a loss or a gradient norm is not a finite number?

The step is skipped on all workers together: they see the same all-reduced loss and norm, so no
word has to be exchanged. Parameters, optimizer state (its step count too) and buffers stay bit by
bit what they were; the learning rate goes on by step number. Counting and what follows from it
are plain arithmetic here, how state is taken back is the worker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from orchestrator.errors import NotFinite
from orchestrator.plan.training import NonFinite

_SHOWN = 5


@dataclass(frozen=True)
class BadStep:
    """A step that was skipped, and the figures that it came to; ``step`` counts from 1."""

    step: int
    loss: float
    grad_norm: float

    def text(self) -> str:
        """``step 12 (loss nan, gradient norm inf)``."""
        return f"step {self.step} (loss {self.loss:g}, gradient norm {self.grad_norm:g})"


Verdict = Literal["fine", "skipped", "stop", "rollback"]


@dataclass
class Guard:
    """Counts steps without finite figures and says what follows; alike on every worker.

    ``num_rollbacks`` is how many the run has made. ``streak`` holds the bad steps since the
    last good one.
    """

    rule: NonFinite
    num_rollbacks: int = 0
    num_skipped: int = 0
    streak: list[BadStep] = field(default_factory=list)

    def saw(self, step: int, loss: float, grad_norm: float, skipped: bool) -> Verdict:
        """What follows from the figures of a step; ``skipped``: by ``bad_flag``."""
        if not skipped:
            self.streak.clear()
            return "fine"
        self.num_skipped += 1
        self.streak.append(BadStep(step, loss, grad_norm))
        if len(self.streak) <= self.rule.max_skips:
            return "skipped"
        wanted = self.rule.then == "rollback" and self.num_rollbacks < self.rule.max_rollbacks
        return "rollback" if wanted else "stop"

    def rolled_back(self) -> None:
        """State was taken back: the bad steps are as if they had never been."""
        self.num_rollbacks += 1
        self.streak.clear()

    def error(self, committed: int | None) -> NotFinite:
        """Why the run ends, what it saw, and what would help. ``committed``: the last
        checkpoint's step."""
        seen = [bad.text() for bad in self.streak[:_SHOWN]]
        more = len(self.streak) - len(seen)
        shown = ", ".join(seen) + (f" and {more} more" if more else "")
        kept = "no checkpoint yet" if committed is None else f"step {committed} is kept"
        return NotFinite(
            f"the loss or the gradient norm is not a finite number in {shown}; {self._limit()}; "
            f"{kept}. {self._advice(committed)}"
        )

    def _limit(self) -> str:
        skips = f"training.non_finite.max_skips={self.rule.max_skips} in a row"
        if self.rule.then == "rollback" and self.num_rollbacks >= self.rule.max_rollbacks:
            used = f"{self.num_rollbacks} of max_rollbacks={self.rule.max_rollbacks} used"
            return f"that is more than {skips}, and {used}"
        return f"that is more than {skips}"

    def _advice(self, committed: int | None) -> str:
        ways = "A smaller training.optimizer.lr, a longer training.schedule.warmup or a smaller "
        ways += "training.max_norm may help"
        if self.rule.then == "stop":
            return f"{ways}; training.non_finite.then=rollback passes over the samples"
        if committed is None:
            return f"{ways}; there is nothing to roll back to: an earlier checkpoint would help"
        return f"{ways}; the samples of these steps may be at fault"


def bad_flag(loss: Tensor, norm: Tensor) -> Tensor:
    """1 where a step is to be skipped, else 0; float32, on the device, without waiting for it."""
    finite = torch.isfinite(loss).logical_and(torch.isfinite(norm.to(loss.device)))
    return finite.logical_not().to(torch.float32).reshape(())


def guarded_step(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """``optimizer.step()``, unless ``bad`` is 1: then nothing moves, bit by bit.

    On a CPU the flag is read. On an accelerator that would drain its queue, so fused kernels are
    given it (``found_inf``, as a gradient scaler does) and return without a write; for an
    optimizer that has none (SGD on pieces of parameters) the queue is waited for.
    """
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    if fused and bad.device.type != "cpu":
        step_on_device(optimizer, bad)
    elif not bool(bad):
        optimizer.step()


def step_on_device(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """``guarded_step`` of a fused optimizer, without reading the flag."""
    if not optimizer.state:
        _fill_momentum(optimizer)
    optimizer.found_inf = bad  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def _fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD its momentum as zeros, which is what a first step makes of it without damping.

    It would otherwise allocate it unfilled in the first step, and a first step that is skipped
    would leave it so.
    """
    for group in optimizer.param_groups:
        if not group.get("momentum"):
            continue
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


class BufferKeeper:
    """Buffers (running means) as they were before a step, for a step that is skipped.

    A forward pass moves them before anybody knows its loss, and some kernels do so unseen by
    a tensor's version, so each is copied before each step. Most models have none that are kept.
    """

    def __init__(self, buffers: Mapping[str, Tensor]) -> None:
        self._buffers = list(buffers.values())
        self._kept = [buffer.detach().clone() for buffer in self._buffers]

    def keep(self) -> None:
        """Remember the buffers as they are."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    def bring_back(self, bad: Tensor) -> None:
        """Undo what the step did to them where ``bad`` is 1; waits for the flag on a CPU alone."""
        if bad.device.type == "cpu" and not bool(bad):
            return
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(torch.where(bad.to(buffer.device).bool(), kept, buffer))
