"""How do tensor ranks share a mixture of experts?

The style ``moe``. Between blocks each rank has a piece of the sequence; here all gather it, route
all of its tokens alike, and compute a part of every expert's hidden features. The results are
parts of a sum, of which each rank gets its piece of the sequence back. Gradients are parts of sums
as well: of the tokens, of the router's weights, and of the router's parameters.

The wrapper calls ``parallelize_module(module, layout.tensor, MoEParallel(experts))`` for each
module of style ``moe``, with the modules among its descendants that ``spread_experts`` spreads:
their parameters are left to it. Either may come first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.parallel import ParallelStyle

from orchestrator.parallel.collectives import gather, sum_and_scatter
from orchestrator.parallel.experts_local import parameters_as, scaled_gradient
from orchestrator.parallel.tensor import SEQUENCE_DIM, gather_sequence


class MoEParallel(ParallelStyle):
    """Tensor parallelism of a mixture of experts, ``forward(x [batch, time, width], …)``.

    It returns a tensor of the shape of ``x``, or a tuple of that and of tensors that are alike on
    every rank (a balance loss). What is not in ``experts`` (a router) is copied to every rank.
    """

    def __init__(self, experts: Collection[nn.Module]) -> None:
        super().__init__()
        self.experts = experts

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        inside = {id(part) for each in self.experts for part in each.modules()}
        owners = [part for part in module.modules() if id(part) not in inside]
        for owner in owners:
            for name, parameter in list(owner._parameters.items()):
                if parameter is not None:
                    setattr(owner, name, _copied(parameter, device_mesh))
        module.forward = functools.partial(_forward, owners, module.forward, device_mesh)
        return module


def _copied(parameter: nn.Parameter, mesh: DeviceMesh) -> nn.Parameter:
    copy = DTensor.from_local(parameter.detach(), mesh, [Replicate()], run_check=False)
    return nn.Parameter(copy, requires_grad=parameter.requires_grad)


def _forward(
    owners: list[nn.Module],
    forward: Callable[..., Any],
    mesh: DeviceMesh,
    piece: Tensor,
    *rest: Any,
    **named: Any,
) -> Any:
    tokens = gather_sequence(piece, mesh)
    with parameters_as(owners, _with_partial_gradient):
        outputs = forward(tokens, *rest, **named)
    several = isinstance(outputs, tuple)
    main, *others = outputs if several else (outputs,)
    summed: Tensor = _SumToPieces.apply(main, mesh)  # type: ignore[no-untyped-call]
    if not several:
        return summed
    return summed, *[_counted_once(other, mesh) for other in others]


def _with_partial_gradient(parameter: DTensor) -> Tensor:
    local: Tensor = parameter.to_local(grad_placements=[Partial()])
    return local


def _counted_once(other: Any, mesh: DeviceMesh) -> Any:
    """What every rank has alike, though gradients of all ranks will be summed."""
    if not isinstance(other, Tensor) or not other.requires_grad:
        return other
    return scaled_gradient(other, 1.0 / mesh.size())


class _SumToPieces(torch.autograd.Function):
    """Parts of a sum ``[batch, time, …]`` → this rank's piece of the sum along the sequence."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, mesh: DeviceMesh) -> Tensor:
        ctx.group = mesh.get_group()
        return sum_and_scatter(part, SEQUENCE_DIM, ctx.group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gather(gradients[0], SEQUENCE_DIM, ctx.group), None
