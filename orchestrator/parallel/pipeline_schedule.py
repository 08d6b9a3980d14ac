"""In which order do forward and backward passes of micro-batches go through the stages?

Builds the schedules of ``torch.distributed.pipelining``. What goes through them as input is the
number of each micro-batch; shapes of activations are given, so that torch need not run stages on
made-up ones to find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
)

from orchestrator.parallel.pipeline_relay import FIRST, HandedOn
from orchestrator.parallel.pipeline_stage import StageOf
from orchestrator.plan.pipelining import Schedule


class Passes:
    """Forward and backward passes of ``micro_batches`` micro-batches, in the order of a schedule.

    ``shapes`` says what each stage hands on. Torch makes room for what is received of every
    micro-batch, activations and gradients, and keeps it from step to step. Raises ``ValueError``
    for a number of micro-batches that the schedule does not take.
    """

    def __init__(
        self,
        schedule: Schedule,
        stages: Sequence[StageOf],
        shapes: Mapping[int, HandedOn],
        micro_batches: int,
        group: dist.ProcessGroup,
        device: torch.device,
    ) -> None:
        self.first, self.last = stages[0].is_first, stages[-1].is_last
        self.numbers = torch.arange(micro_batches)
        parts: list[Any] = [_stage(stage, shapes, group, device) for stage in stages]
        # The sum over micro-batches is wanted; each loss is scaled already.
        settings: dict[str, Any] = {"loss_fn": _loss_itself, "scale_grads": False}
        self.order: Any
        if schedule == "interleaved-1f1b":
            self.order = ScheduleInterleaved1F1B(parts, micro_batches, **settings)
        elif schedule == "1f1b":
            self.order = Schedule1F1B(parts[0], micro_batches, **settings)
        else:
            self.order = ScheduleGPipe(parts[0], micro_batches, **settings)

    def run(self) -> None:
        """Run all passes; gradients are added up, and averaged by FSDP or DDP after the last."""
        inputs = (self.numbers,) if self.first else ()
        target = self.numbers if self.last else None
        self.order.step(*inputs, target=target, return_outputs=False, micro_batch=self.numbers)


def _loss_itself(output: Tensor, _number: Tensor) -> Tensor:
    """The last stage returns the loss, so that no outputs are kept for it."""
    return output


def _stage(
    stage: StageOf,
    shapes: Mapping[int, HandedOn],
    group: dist.ProcessGroup,
    device: torch.device,
) -> PipelineStage:
    return PipelineStage(
        stage.called,
        stage.index,
        stage.num_stages,
        device,
        input_args=(FIRST,) if stage.is_first else shapes[stage.index - 1].empty("meta"),
        output_args=torch.empty((), device="meta", requires_grad=True)
        if stage.is_last
        else shapes[stage.index].empty("meta"),
        group=group,
    )
