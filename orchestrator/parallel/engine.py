"""How do forward and backward of one step go over what this rank holds?

An engine leaves gradients behind, averaged over the ranks that hold the same parameters; the step
(``step``) does the rest. Here is the engine of ranks that hold all layers; ``pipeline`` has that
of ranks that hold some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from orchestrator.job import Batch, Job
from orchestrator.parallel.figures import Figures
from orchestrator.parallel.world import World, seed_all

Sums = dict[str, tuple[float, float]]
"""For each metric the sum and the weight it is to be divided by."""

CutBatch = Callable[[Batch], Batch]
"""Takes this rank's pieces of the sequences out of a prepared batch."""


class Engine(Protocol):
    """What a step asks of the model, on every rank together."""

    def backward(self, batches: Sequence[Batch], first_sample: int, figures: Figures) -> bool:
        """Add up the gradients of equal micro-batches and average them over the ranks.

        ``first_sample`` is the position in the run of this rank's first sample. Fills
        ``figures`` and shares them. Returns whether samples weigh differently: then gradients
        are those of the sum of losses, divided by the micro-batch's number of samples, instead
        of those of the mean.
        """

    def evaluate(self, batch: Batch, count: int, seed: int) -> Sums:
        """Loss and scores of the first ``count`` samples of a batch, where this rank knows them;
        a forward pass alone. With ``count`` 0 it takes part for the sake of the others."""


class LossOf(nn.Module):
    """A Job's loss as a module, so that what is wrapped is the loss and not the model.

    The Job then always sees its own model, whose every method works, however many workers
    there are.
    """

    def __init__(self, job: Job, model: nn.Module, cut: CutBatch | None = None) -> None:
        super().__init__()
        self.job = job
        self.model = model
        self.cut = cut

    def forward(self, batch: Batch, scoring: bool = False) -> Any:
        """What the Job says that the batch costs; with ``scoring`` its scores besides."""
        if not says_in_parts(self.job):
            loss = self.job.loss(self.model, batch)
            return (loss, self.job.metrics(self.model, batch)) if scoring else loss
        prepared = self.job.prepare(batch)
        if self.cut is not None:
            prepared = self.cut(prepared)
        positional, named = self.job.arguments(prepared)
        outputs = self.model(*positional, **named)
        loss = self.job.criterion(outputs, prepared)
        return (loss, self.job.scores(outputs, prepared)) if scoring else loss


def says_in_parts(job: Job) -> bool:
    """Whether the Job's loss is made of ``prepare``, ``arguments`` and ``criterion``."""
    return type(job).loss is Job.loss


class WholeEngine:
    """Every rank holds all layers, whole or in pieces; micro-batches follow one another."""

    def __init__(
        self,
        module: nn.Module,
        world: World,
        seed: int,
        micro_batch: int,
        accumulation: int,
        bf16: bool,
    ) -> None:
        self.module, self.world = module, world
        self.seed, self.micro_batch, self.accumulation = seed, micro_batch, accumulation
        self.bf16 = bf16

    def backward(self, batches: Sequence[Batch], first_sample: int, figures: Figures) -> bool:
        """See ``Engine``. Only the last backward pass sends gradients."""
        weighted = False
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            seed_all(self.seed, first_sample + index * self.micro_batch)
            with nullcontext() if is_last else self._unsynchronised():
                with computing_in(self.world, self.bf16):
                    loss, weight = check_loss(self.module(batch))
                weighted = weight is not None
                figures.add(loss, self.micro_batch, weight)
                if is_last:
                    # Travels while the backward pass computes.
                    figures.share()
                # A sum of weighted losses is brought to the size of a mean over samples; its
                # exact divisor, the weight of the whole global batch, is only known later.
                divisor = self.micro_batch if weighted else self.accumulation
                (loss / divisor).backward()  # type: ignore[no-untyped-call]
        return weighted

    def evaluate(self, batch: Batch, count: int, seed: int) -> Sums:
        """See ``Engine``."""
        seed_all(seed)
        # DDP would exchange buffers in each forward pass, but ranks may have fewer batches.
        module = self.module
        if isinstance(module, DistributedDataParallel):
            module = module.module
        with torch.no_grad(), computing_in(self.world, self.bf16):
            loss, scores = module(batch, scoring=True)
        return sums_of(loss, scores, count) if count else {}

    def _unsynchronised(self) -> AbstractContextManager[Any]:
        if isinstance(self.module, FSDPModule):
            return _without_reduction(self.module)
        no_sync = getattr(self.module, "no_sync", nullcontext)
        context: AbstractContextManager[Any] = no_sync()
        return context


@contextmanager
def _without_reduction(module: FSDPModule) -> Any:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def computing_in(world: World, bf16: bool) -> AbstractContextManager[Any]:
    """The precision of forward passes.

    Casts are not kept: those of parameters that are gathered for a moment would stay in memory.
    """
    return torch.autocast(world.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)


def sums_of(loss: Any, scores: Mapping[str, Any], count: int) -> Sums:
    """Loss and scores of ``count`` samples as totals and weights."""
    figures = {"loss": loss, **scores}
    return {name: _total(check_loss(value), count) for name, value in figures.items()}


def _total(figure: tuple[Tensor, Tensor | None], count: int) -> tuple[float, float]:
    value, weight = figure
    if weight is None:
        return float(value) * count, float(count)
    return float(value), float(weight)


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
