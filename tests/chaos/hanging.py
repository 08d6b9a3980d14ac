"""A Job that hangs once, on one worker, in its loss."""

from __future__ import annotations

import time
from pathlib import Path

import torch.distributed as dist
from torch import Tensor, nn

from jobs.digits import Digits
from orchestrator import Batch


class Hanging(Digits):
    """Worker ``rank`` never comes back from the loss of its ``after``-th pass, where the file
    ``mark`` does not exist yet; it makes the file first, so that it hangs only once."""

    def __init__(self, mark: str, channels: int = 16, rank: int = 1, after: int = 75) -> None:
        super().__init__(channels)
        self.mark, self.rank, self.after = Path(mark), rank, after
        self.passes = 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The digits' loss, or nothing for ever."""
        self.passes += 1
        if self.passes == self.after and dist.get_rank() == self.rank and not self.mark.exists():
            self.mark.touch()
            while True:
                time.sleep(1.0)  # hangs here
        return super().loss(model, batch)
