"""How does a module that was written for plain tensors compute on the part that this rank holds?

Its parameters are DTensors, which belong to a mesh; while its ``forward`` runs they are replaced
by this rank's own numbers. What is done to their gradients on the way back is said by whoever
replaces them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@contextmanager
def parameters_as(
    owners: Sequence[nn.Module], local: Callable[[DTensor], Tensor]
) -> Iterator[list[Tensor]]:
    """Meanwhile every DTensor parameter of ``owners``, themselves alone, is ``local(parameter)``.

    Yields what stands for them. ``fully_shard`` exchanges parameters before and after a forward
    pass, never within it, and so does not see this.
    """
    before = [dict(owner._parameters) for owner in owners]
    held: list[Tensor] = []
    try:
        for owner, parameters in zip(owners, before, strict=True):
            for name, parameter in parameters.items():
                if isinstance(parameter, DTensor):
                    held.append(local(parameter))
                    owner._parameters[name] = held[-1]
        yield held
    finally:
        for owner, parameters in zip(owners, before, strict=True):
            owner._parameters.update(parameters)


def scaled_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The same numbers; the gradient is multiplied by ``factor``."""
    same: Tensor = _ScaledGradient.apply(tensor, factor)  # type: ignore[no-untyped-call]
    return same


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def zero_gradients(results: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The same results; parameters that no token came to get a gradient of zero.

    Without it a rank whose experts nobody chose would have no gradient to average with the
    others, who would wait for it.
    """
    same: Tensor = _ZeroGradients.apply(results, *parameters)  # type: ignore[no-untyped-call]
    return same


class _ZeroGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, results: Tensor, *parameters: Tensor) -> Tensor:
        ctx.likes = [(p.shape, p.dtype, p.device) for p in parameters]
        return results.view_as(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        zeros = [torch.zeros(shape, dtype=d, device=where) for shape, d, where in ctx.likes]
        return gradients[0], *zeros
