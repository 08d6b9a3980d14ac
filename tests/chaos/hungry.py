"""A Job whose loss needs more memory than there is, for more than so many samples at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jobs.digits import Digits
from orchestrator import Batch

_TOO_MUCH = 1 << 50


class Hungry(Digits):
    """Asks the allocator for a pebibyte where a micro-batch has more than ``at_most`` samples."""

    def __init__(self, at_most: int, channels: int = 16) -> None:
        super().__init__(channels)
        self.at_most = at_most

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The digits' loss."""
        if model.training and len(batch["label"]) > self.at_most:
            torch.empty(_TOO_MUCH, dtype=torch.uint8)
        return super().loss(model, batch)
