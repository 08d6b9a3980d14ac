"""What happens in one optimizer step?

Each worker computes its share of the global batch in micro-batches and adds the gradients up;
the last backward pass averages them over the workers. The result is the gradient of the mean
over the global batch, whatever the mesh and the number of micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orchestrator.job import Batch
from orchestrator.parallel.engine import Engine
from orchestrator.parallel.figures import Figures, Wishes
from orchestrator.parallel.guard import BufferKeeper, guarded_step
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.norm import GradientNorm, local_of, settle
from orchestrator.parallel.optimizer import set_learning_rate
from orchestrator.parallel.wrap import Laid, uncounted_in


class Stepper:
    """Takes optimizer steps of a model that lies over a mesh."""

    def __init__(
        self,
        laid: Laid,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        layout: Layout,
        micro_batch: int,
        max_norm: float,
    ) -> None:
        self.engine, self.optimizer, self.layout = engine, optimizer, layout
        self.micro_batch, self.max_norm = micro_batch, max_norm
        self.parameters = {n: p for n, p in laid.parts.parameters().items() if p.requires_grad}
        self.norm = GradientNorm(self.parameters, layout, uncounted_in(laid, layout))
        self.buffers = BufferKeeper(laid.parts.buffers())
        self.entered: Callable[[str, Callable[[], int] | None], None] = lambda *_: None
        """Told what the step does, for a watchdog."""

    def step(
        self, first_sample: int, batches: Sequence[Batch], rate: float, wishes: Wishes
    ) -> Figures:
        """One step on this worker's micro-batches; returns figures that are still on their way.

        Where loss or gradient norm is not a finite number, nothing moves on any worker.
        ``first_sample`` is the position of the worker's first sample in the run, ``rate`` the
        learning rate, ``wishes`` what this worker wants of all.
        """
        self.optimizer.zero_grad(set_to_none=True)
        figures = Figures(self.layout, wishes)
        self.buffers.keep()
        self.entered("forward and backward", lambda: figures.num_added)
        weighted = self.engine.backward(batches, first_sample, figures)
        self.entered("the gradient norm", None)
        settle(self.parameters)
        figures.gradient_norm = self._clip(self._correction(figures) if weighted else None)
        self.entered("the optimizer", None)
        bad = figures.judge()
        set_learning_rate(self.optimizer, rate)
        guarded_step(self.optimizer, bad)
        self.buffers.bring_back(bad)
        figures.depart()
        return figures

    def _correction(self, figures: Figures) -> Tensor:
        """Turns ``mean over ranks (sum of losses / micro_batch)`` into ``sum / weight``."""
        weight = figures.weight()
        safe = torch.where(weight > 0, weight, 1.0)  # nothing counted: gradients are zero
        return (self.micro_batch * self.layout.num_averaged / safe).float()

    @torch.no_grad()
    def _clip(self, correction: Tensor | None) -> Tensor:
        """Correct and clip the gradients in one pass over them; returns their global norm.

        The factor is that of ``torch.nn.utils.clip_grad_norm_``. Raises ``TypeError`` where a
        parameter has no gradient.
        """
        gradients = [local_of(p.grad) for p in self.parameters.values() if p.grad is not None]
        if len(gradients) < len(self.parameters):
            raise self._unused()
        norm = self.norm()
        factor = correction
        if correction is not None:
            norm = norm * correction
        if self.max_norm > 0:
            shrink = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            factor = shrink if correction is None else shrink * correction
        if factor is not None:
            torch._foreach_mul_(gradients, factor)
        return norm

    def _unused(self) -> TypeError:
        """One worker could go on, several could not; so none does, and it is said why."""
        names = [name for name, p in self.parameters.items() if p.grad is None]
        return TypeError(
            f"the loss does not depend on {', '.join(names[:5])}"
            f"{f' and {len(names) - 5} more parameters' if len(names) > 5 else ''}; "
            "use them, or call requires_grad_(False) on them in Job.model"
        )
