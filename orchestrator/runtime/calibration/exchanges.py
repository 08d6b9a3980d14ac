"""How long do collectives take over the real links, with the process groups that runs use?"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
import torch.distributed as dist

from orchestrator.planner.calibration.timings import ExchangeTiming
from orchestrator.planner.cost.device import Collective
from orchestrator.runtime.calibration.pace import Work
from orchestrator.runtime.calibration.stopwatch import finish

SIZES = {
    "cpu": (4 * 2**10, 64 * 2**10, 512 * 2**10, 2 * 2**20, 8 * 2**20),
    "cuda": (64 * 2**10, 2**20, 16 * 2**20, 128 * 2**20, 512 * 2**20),
}
"""Bytes of the whole buffer, by kind of device."""

_ROUNDS = 5
_ROUND_SECONDS = 0.08
_MOST_IN_A_ROUND = 100
_WARM_UPS = 2
_TIMES_APART = 10
_APART_SECONDS = 0.03
_ONE_SIDED = "broadcast"
"""Its root has done with it as soon as it has sent."""


def measure_exchanges(group: dist.ProcessGroup, device: torch.device) -> tuple[ExchangeTiming, ...]:
    """Time each collective at each size on ``group``. All of its ranks call it together, and get
    the same answer.

    On processors ranks come to it as they do in a run, each from work of its own and so not at the
    same time; what counts is what the last one waits, who waits for nobody. That is longer
    than one exchange right after another, which finds threads awake and caches warm. A broadcast,
    and all on accelerators, are timed one right after another, and the slowest rank counts.
    """
    work = Work(group, _APART_SECONDS) if device.type == "cpu" else None
    found = []
    for collective in _CALLS:
        for size in SIZES[device.type]:
            call = _CALLS[collective](size, group, device)
            if work is None or collective == _ONE_SIDED:
                seconds = _timed(call, group, device)
            else:
                seconds = _timed_apart(call, group, work)
            found.append(ExchangeTiming(collective, group.size(), size, seconds))
    return tuple(found)


def _timed_apart(call: Callable[[], object], group: dist.ProcessGroup, work: Work) -> float:
    """Median of the shortest over the ranks."""
    taken = []
    for _ in range(_WARM_UPS + _TIMES_APART):
        work.do()
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    last = torch.tensor(taken[_WARM_UPS:], dtype=torch.float64)
    dist.all_reduce(last, op=dist.ReduceOp.MIN, group=group)
    return float(last.median())


def _timed(call: Callable[[], object], group: dist.ProcessGroup, device: torch.device) -> float:
    """Median over rounds of the mean of a round, the longest over the ranks."""
    for _ in range(_WARM_UPS):
        call()
    finish(device)
    count = _agreed(_once(call, 1, device), group, device)
    times = max(1, min(_MOST_IN_A_ROUND, int(_ROUND_SECONDS / max(count, 1e-6))))
    means = [_once(call, times, device) / times for _ in range(_ROUNDS)]
    return _agreed(median(means), group, device)


def _once(call: Callable[[], object], times: int, device: torch.device) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    finish(device)
    return time.perf_counter() - begun


def _agreed(seconds: float, group: dist.ProcessGroup, device: torch.device) -> float:
    value = torch.tensor([seconds], dtype=torch.float64, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX, group=group)
    return float(value)


def _floats(size: int, device: torch.device) -> torch.Tensor:
    return torch.ones(size // 4, device=device)


def _broadcast(size: int, group: dist.ProcessGroup, device: torch.device) -> Callable[[], object]:
    buffer = _floats(size, device)
    return lambda: dist.broadcast(buffer, group=group, group_src=0)


def _all_reduce(size: int, group: dist.ProcessGroup, device: torch.device) -> Callable[[], object]:
    buffer = _floats(size, device)
    return lambda: dist.all_reduce(buffer, op=dist.ReduceOp.MAX, group=group)


def _all_gather(size: int, group: dist.ProcessGroup, device: torch.device) -> Callable[[], object]:
    ranks = group.size()
    share = _floats(size // ranks, device)
    whole = torch.empty(share.numel() * ranks, device=device)
    return lambda: dist.all_gather_into_tensor(whole, share, group=group)


def _reduce_scatter(
    size: int, group: dist.ProcessGroup, device: torch.device
) -> Callable[[], object]:
    ranks = group.size()
    share = torch.empty(size // 4 // ranks, device=device)
    whole = _floats(share.numel() * ranks * 4, device)
    return lambda: dist.reduce_scatter_tensor(share, whole, group=group)


def _all_to_all(size: int, group: dist.ProcessGroup, device: torch.device) -> Callable[[], object]:
    sent = _floats(size // group.size() // 4 * 4 * group.size(), device)
    received = torch.empty_like(sent)
    return lambda: dist.all_to_all_single(received, sent, group=group)


_CALLS: dict[
    Collective,
    Callable[[int, dist.ProcessGroup, torch.device], Callable[[], object]],
] = {
    "broadcast": _broadcast,
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
}
