"""A pipeline of Llama stages by hand: ``torch.distributed.pipelining`` around DDP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from benchmarks.by_hand.mesh_model import copied
from jobs.llama import Llama, Rotation

Loss = Callable[[Tensor, Tensor], Tensor]


class Stage(nn.Module):
    """An equal part of the layers; the first has the embedding too, the last norm and head."""

    def __init__(self, model: Llama, index: int, count: int) -> None:
        super().__init__()
        decoder = model.model
        self.shape = decoder.shape
        per_stage = len(decoder.layers) // count
        self.embed_tokens = decoder.embed_tokens if index == 0 else None
        self.layers = nn.ModuleList(decoder.layers[index * per_stage : (index + 1) * per_stage])
        self.norm = decoder.norm if index == count - 1 else None
        self.lm_head = model.lm_head if index == count - 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens or hidden states → hidden states or logits."""
        turn = Rotation(self.shape, torch.arange(x.shape[1])[None])
        if self.embed_tokens is not None:
            x = self.embed_tokens(x)
        for layer in self.layers:
            x = layer(x, turn, None, None)
        if self.norm is not None and self.lm_head is not None:
            x = self.lm_head(self.norm(x))
        return x


class Pipeline:
    """One stage on each rank of ``stages``, each copied over ``copies``; 1F1B."""

    def __init__(
        self,
        model: Llama,
        stages: DeviceMesh,
        copies: DeviceMesh,
        num_microbatches: int,
        loss: Loss,
    ) -> None:
        self.index, self.count = stages.get_local_rank(), stages.size()
        self.module = copied(Stage(model, self.index, self.count), copies)
        stage = PipelineStage(
            self.module, self.index, self.count, torch.device("cpu"), group=stages.get_group()
        )
        self.schedule = Schedule1F1B(stage, num_microbatches, loss_fn=loss, scale_grads=False)

    @property
    def is_last(self) -> bool:
        """Whether this rank computes the loss."""
        return self.index == self.count - 1

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor | None:
        """Forward and backward of a batch; the sum of its losses where they are known."""
        losses: list[Tensor] = []
        if self.index == 0:
            self.schedule.step(inputs, target=targets, losses=losses, return_outputs=False)
        else:
            self.schedule.step(target=targets, losses=losses, return_outputs=False)
        return torch.stack(losses).detach().sum() if self.is_last else None
