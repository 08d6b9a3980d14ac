"""How is a model laid over the mesh?

Today: copies whose gradients are averaged. Other mesh dimensions will be applied here too; the
step and the loop need not know which there are.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.errors import InfeasibleError
from orchestrator.job import Batch, Job
from orchestrator.parallel.world import World
from orchestrator.plan.mesh import Mesh

BUCKET_MEBIBYTES = 25
"""Gradients are averaged in pieces of this size, while the rest are still being computed."""


class LossOf(nn.Module):
    """A Job's loss as a module, so that what is wrapped is the loss and not the model.

    The Job then always sees its own model, whose every method works, however many workers
    there are.
    """

    def __init__(self, job: Job, model: nn.Module) -> None:
        super().__init__()
        self.job = job
        self.model = model

    def forward(self, batch: Batch) -> Any:
        """What the Job says that the batch costs."""
        return self.job.loss(self.model, batch)


def agree_on_buffers(model: nn.Module, world: World) -> None:
    """Give every worker the first one's buffers (running means of a batch norm, and the like).

    They are not averaged with the gradients, and each worker has moved its own since the last
    forward pass. Their values depend on the micro-batches, and so may what they do to the loss.
    """
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wrap(module: nn.Module, mesh: Mesh) -> nn.Module:
    """Lay ``module`` over ``mesh``; with a mesh of one it is the same module.

    Raises ``InfeasibleError`` for a mesh dimension that this version does not carry out.
    """
    if mesh.size != mesh.replicate:
        raise InfeasibleError(f"{mesh} is planned, but this version trains with replicate alone")
    if mesh.size == 1:
        return module
    return DistributedDataParallel(
        module, bucket_cap_mb=BUCKET_MEBIBYTES, gradient_as_bucket_view=True
    )
