"""The digits job at a walking pace, so that there is time for faults between its steps."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch.distributed as dist
from torch import Tensor, nn

from jobs.digits import Digits
from orchestrator import Batch


class Paced(Digits):
    """Computes what ``Digits`` computes, ``seconds`` later a pass. Where ``mark`` is given, worker
    ``rank`` makes that file and kills its own process in its ``after``-th pass, once."""

    def __init__(
        self, seconds: float = 0.02, channels: int = 16, mark: str = "", rank: int = 1,
        after: int = 60,
    ) -> None:  # fmt: skip
        super().__init__(channels)
        self.seconds, self.mark, self.rank, self.after = seconds, mark, rank, after
        self.passes = 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The digits' loss, after a pause."""
        time.sleep(self.seconds)
        self.passes += 1
        if self.mark and self.passes == self.after and dist.get_rank() == self.rank:
            mark = Path(self.mark)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch)
