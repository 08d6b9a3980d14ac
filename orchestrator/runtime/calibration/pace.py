"""Do ranks take equally long for equal work? In each step all of them wait for the slowest."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

_HIDDEN, _HEADS, _FFN = 128, 4, 512
_SAMPLES, _TOKENS = 4, 128
_SIZING_SECONDS = 0.05
_STEP_SECONDS = 0.2
_STEPS = 15
_WARM_UPS = 2


class Work:
    """The same work on all ranks of ``group``: a small transformer's layer, forward and backward.

    Made by all of them together; then ``do`` takes about ``seconds``.
    """

    def __init__(self, group: dist.ProcessGroup, seconds: float) -> None:
        self._layer = torch.nn.TransformerEncoderLayer(
            _HIDDEN, _HEADS, _FFN, dropout=0.0, batch_first=True
        )
        self._states = torch.randn(_SAMPLES, _TOKENS, _HIDDEN)
        self._times = 1
        self.do()
        begun, count = time.perf_counter(), 0
        while time.perf_counter() < begun + _SIZING_SECONDS:
            self.do()
            count += 1
        wanted = torch.tensor([count * seconds / (time.perf_counter() - begun)])
        dist.all_reduce(wanted, group=group)
        self._times = max(1, round(float(wanted) / group.size()))

    def do(self) -> None:
        """Once through it."""
        for _ in range(self._times):
            self._layer(self._states).sum().backward()


def measure_pace(group: dist.ProcessGroup) -> tuple[tuple[float, ...], ...]:
    """Seconds that each rank of ``group`` took for the same work, step after step, on processors.
    All of them call it together, and get the same answer."""
    work = Work(group, _STEP_SECONDS)
    taken = []
    for _ in range(_WARM_UPS + _STEPS):
        dist.barrier(group)
        begun = time.perf_counter()
        work.do()
        taken.append(time.perf_counter() - begun)
    own = torch.tensor(taken[_WARM_UPS:], dtype=torch.float64)
    every = [torch.empty_like(own) for _ in range(group.size())]
    dist.all_gather(every, own, group=group)
    return tuple(tuple(step) for step in torch.stack(every, dim=1).tolist())
