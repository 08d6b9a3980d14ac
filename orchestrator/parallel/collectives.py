"""How do ranks exchange tensors within a model?

Torch's functional collectives, which recomputation and its selective form know, with results that
are plain tensors whose numbers have arrived. Only ``send_to_all`` has a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

_operations = torch.ops._c10d_functional


def gather(tensor: Tensor, dim: int, group: ProcessGroup) -> Tensor:
    """The tensors of all ranks, one after the other along ``dim``."""
    size = group.size()
    flat = _arrived(_operations.all_gather_into_tensor(tensor.contiguous(), size, group.group_name))
    return flat if dim == 0 else torch.cat(flat.chunk(size), dim)


def sum_and_scatter(tensor: Tensor, dim: int, group: ProcessGroup) -> Tensor:
    """This rank's part along ``dim`` of the sum of all ranks' tensors."""
    size = group.size()
    flat = tensor if dim == 0 else torch.cat(tensor.chunk(size, dim))
    return _arrived(
        _operations.reduce_scatter_tensor(flat.contiguous(), "sum", size, group.group_name)
    )


def send_evenly_to_all(tensor: Tensor, group: ProcessGroup) -> Tensor:
    """Each rank gets an equal part of the rows of every rank's tensor, in order of rank."""
    share = [tensor.shape[0] // group.size()] * group.size()
    return _send(tensor, share, share, group)


def send_to_all(
    tensor: Tensor, received: list[int], sent: list[int], group: ProcessGroup
) -> Tensor:
    """``sent[r]`` rows of ``tensor`` go to rank ``r``, ``received[r]`` come from there, in order
    of rank. The gradient goes the way back."""
    rows: Tensor = _SendToAll.apply(tensor, received, sent, group)  # type: ignore[no-untyped-call]
    return rows


class _SendToAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, received: list[int], sent: list[int], group: ProcessGroup
    ) -> Tensor:
        ctx.received, ctx.sent, ctx.group = received, sent, group
        return _send(tensor, received, sent, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _send(gradients[0], ctx.sent, ctx.received, ctx.group), None, None, None


def _send(tensor: Tensor, received: list[int], sent: list[int], group: ProcessGroup) -> Tensor:
    rows = tensor.contiguous()
    return _arrived(_operations.all_to_all_single(rows, received, sent, group.group_name))


def _arrived(tensor: Tensor) -> Tensor:
    there: Tensor = _operations.wait_tensor(tensor)
    return there
