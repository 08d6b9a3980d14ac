"""What happens in one optimizer step?

Each worker computes its share of the global batch in micro-batches and adds the gradients up;
the last backward pass averages them over the workers. The result is the gradient of the mean
over the global batch, whatever the number of workers and micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.job import Batch, Job
from orchestrator.parallel.figures import Figures
from orchestrator.parallel.optimizer import set_learning_rate
from orchestrator.parallel.world import World, seed_all
from orchestrator.parallel.wrap import LossOf, wrap
from orchestrator.plan.mesh import Mesh


@dataclass(frozen=True)
class StepRules:
    """What the plan says about steps. ``batch_degree`` workers see different samples."""

    seed: int
    micro_batch: int
    accumulation: int
    batch_degree: int
    max_norm: float
    bf16: bool


class Stepper:
    """Takes optimizer steps of a Job's model."""

    def __init__(
        self,
        job: Job,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mesh: Mesh,
        world: World,
        rules: StepRules,
    ) -> None:
        self.module = wrap(LossOf(job, model), mesh)
        self.optimizer = optimizer
        self.world = world
        self.rules = rules
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(self, first_sample: int, batches: Sequence[Batch], rate: float, stop: bool) -> Figures:
        """One step on this worker's micro-batches; returns figures that are still on their way.

        ``first_sample`` is the position of the worker's first sample in the run, ``rate`` the
        learning rate, ``stop`` whether this worker was asked to stop.
        """
        self.optimizer.zero_grad(set_to_none=True)
        figures = Figures(self.world, stop)
        weighted = False
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            seed_all(self.rules.seed, first_sample + index * self.rules.micro_batch)
            with nullcontext() if is_last else self._unsynchronised():
                loss, weight = self._loss(batch)
                weighted = weight is not None
                figures.add(loss, self.rules.micro_batch, weight)
                if is_last:
                    # Travels while the backward pass computes.
                    figures.share()
                self._scaled(loss, weighted).backward()  # type: ignore[no-untyped-call]
        figures.gradient_norm = self._clip(self._correction(figures) if weighted else None)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        figures.depart()
        return figures

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=self.rules.bf16):
            outcome = self.module(batch)
        return check_loss(outcome)

    def _scaled(self, loss: Tensor, weighted: bool) -> Tensor:
        """Wrapping averages over workers; this makes it an average over micro-batches too.

        A sum of weighted losses is brought to the size of a mean over samples, whose exact
        divisor, the weight of the whole global batch, is only known later.
        """
        return loss / (self.rules.micro_batch if weighted else self.rules.accumulation)

    def _correction(self, figures: Figures) -> Tensor:
        """Turns ``mean over workers (sum of losses / micro_batch)`` into ``sum / weight``."""
        weight = figures.weight()
        safe = torch.where(weight > 0, weight, 1.0)  # nothing counted: gradients are zero
        return (self.rules.micro_batch * self.rules.batch_degree / safe).float()

    def _clip(self, correction: Tensor | None) -> Tensor:
        """Correct and clip the gradients in one pass over them; returns their global norm.

        The factor is that of ``torch.nn.utils.clip_grad_norm_``. Raises ``TypeError`` where a
        parameter has no gradient.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if len(gradients) < len(self.parameters):
            raise self._unused()
        norm = torch.nn.utils.get_total_norm(gradients)
        factor = correction
        if correction is not None:
            norm = norm * correction
        if self.rules.max_norm > 0:
            shrink = (self.rules.max_norm / (norm + 1e-6)).clamp(max=1.0)
            factor = shrink if correction is None else shrink * correction
        if factor is not None:
            torch._foreach_mul_(gradients, factor)
        return norm

    def _unused(self) -> TypeError:
        """One worker could go on, several could not; so none does, and it is said why."""
        model = self.module.get_submodule("model" if self.world.size == 1 else "module.model")
        names = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        return TypeError(
            f"the loss does not depend on {', '.join(names[:5])}"
            f"{f' and {len(names) - 5} more parameters' if len(names) > 5 else ''}; "
            "use them, or call requires_grad_(False) on them in Job.model"
        )

    def _unsynchronised(self) -> AbstractContextManager[Any]:
        no_sync = getattr(self.module, "no_sync", nullcontext)
        context: AbstractContextManager[Any] = no_sync()
        return context


def check_loss(outcome: Any) -> tuple[Tensor, Tensor | None]:
    """A Job's loss as ``(mean, None)`` or ``(total, weight)``.

    Raises ``TypeError`` for anything but a scalar tensor or two of them.
    """
    loss, weight = outcome if isinstance(outcome, tuple) and len(outcome) == 2 else (outcome, None)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise TypeError(
            "loss(model, batch) must return a scalar tensor (a mean over samples) or a pair of "
            f"scalar tensors (total, weight), not {_describe(outcome)}"
        )
    if weight is not None and (not isinstance(weight, Tensor) or weight.numel() != 1):
        raise TypeError(f"the weight of a loss must be a scalar tensor, not {_describe(weight)}")
    return loss.reshape(()), None if weight is None else weight.detach().reshape(())


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
