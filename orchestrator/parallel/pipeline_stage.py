"""What does one stage compute of one micro-batch?

The module that a schedule calls, and that is sharded: a stage's layers with the Job around them,
as ``LossOf`` is for a whole model. It is called with activations and the number of a micro-batch;
everything else of a micro-batch is there on every rank, because pipeline ranks read the same
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from orchestrator.errors import InfeasibleError
from orchestrator.job import Batch, Job
from orchestrator.parallel.engine import says_in_parts
from orchestrator.parallel.pipeline_cut import PassThrough, pass_throughs
from orchestrator.parallel.world import seed_all
from orchestrator.split import Split

Finish = Callable[[Any, Batch], Tensor]
"""Turns the model's outputs and the prepared batch into what the last stage returns."""


@dataclass(frozen=True)
class MicroBatch:
    """What stages need to know of a micro-batch besides activations."""

    prepared: Batch
    seed: tuple[int, ...]
    """Where it stands in the run, for random numbers."""
    computing: Callable[[], AbstractContextManager[Any]]
    """The precision of the forward pass."""
    finish: Finish
    """What the last stage does in the end."""


class StageOf(nn.Module):
    """Stage ``index`` of ``num_stages``; ``model`` is what it keeps of the Job's model."""

    def __init__(self, job: Job, model: nn.Module, index: int, num_stages: int) -> None:
        super().__init__()
        if not says_in_parts(job):
            raise InfeasibleError(
                f"{type(job).__name__} defines loss as one piece; a pipeline computes the model in "
                "one place and the loss in another: define prepare, arguments and criterion "
                "instead, or model.pipeline=1"
            )
        self.job, self.model = job, model
        self.index, self.num_stages = index, num_stages
        self.blocks = (job.split() or Split()).blocks
        # What schedules call instead where copies are averaged by DDP; in a tuple, because a
        # module may not hold the module around it.
        self.around: tuple[DistributedDataParallel, ...] = ()
        self.work: Sequence[MicroBatch] = ()
        self.failure: Exception | None = None

    @property
    def called(self) -> nn.Module:
        """What a schedule's forward passes call."""
        return self.around[0] if self.around else self

    @property
    def is_first(self) -> bool:
        """Whether it is given the model's inputs."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether it computes the loss."""
        return self.index == self.num_stages - 1

    def forward(self, *received: Tensor, micro_batch: Tensor) -> Any:
        """From what the stage before returned to what the next one gets: a tensor or several.

        ``micro_batch`` is a number, ``[1]``, on the CPU. Raises what the Job raises, and
        ``TypeError`` where the model returns anything but tensors to hand on.
        """
        try:
            return self._compute(self.work[int(micro_batch)], received)
        except Exception as error:
            self.failure = error  # schedules wrap it; the user wants to see their own
            raise

    def _compute(self, task: MicroBatch, received: tuple[Tensor, ...]) -> Any:
        # Each stage draws numbers of its own, or all would drop the same activations.
        seed_all(*task.seed, self.index + 1)
        positional, named = self.job.arguments(task.prepared)
        with task.computing():
            outputs = self.model(*(positional if self.is_first else received), **named)
            if self.is_last:
                return task.finish(outputs, task.prepared)
        return self._handed_on(outputs)

    def _handed_on(self, outputs: Any) -> tuple[Tensor, ...]:
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        if all(isinstance(t, Tensor) and not isinstance(t, DTensor) for t in tensors):
            # A tensor that is still on its way from other ranks has a type of its own.
            return tuple(t.contiguous() if type(t) is Tensor else t.clone() for t in tensors)
        raise TypeError(
            f"stage {self.index} of {type(self.model).__name__} must hand on a tensor or a "
            f"tuple of tensors, not {', '.join(type(t).__name__ for t in tensors)}"
        )

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Find out meanwhile how many tensors blocks hand on, for those that hand on unseen."""
        places = list(pass_throughs(self.model))

        def learn(_block: nn.Module, _given: Any, returned: Any) -> None:
            for place in places:
                place.num_tensors = len(returned) if isinstance(returned, tuple) else 1

        blocks = self.model.get_submodule(self.blocks).children()
        hooks = [b.register_forward_hook(learn) for b in blocks if not isinstance(b, PassThrough)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def num_tensors(self) -> int:
        """How many tensors blocks hand on, as far as is known; 1 before ``learning``."""
        return next((place.num_tensors for place in pass_throughs(self.model)), 1)

    @num_tensors.setter
    def num_tensors(self, number: int) -> None:
        for place in pass_throughs(self.model):
            place.num_tensors = number
