"""How large is the gradient, over every rank of the mesh?

Each parameter counts once, however many ranks hold a copy or a piece of it: every rank adds the
squares of what it holds, divided by the number of ranks that hold the same. One small all-reduce
over the world then gives the global norm, whatever the mesh.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from orchestrator.parallel.layout import Layout


def settle(parameters: Mapping[str, nn.Parameter]) -> None:
    """Bring gradients into the form of their parameters.

    A rank whose activations are a piece of the sequence leaves a part of the gradient of what all
    ranks share (norms); the parts are summed here where nothing else did it.
    """
    for parameter in parameters.values():
        gradient = parameter.grad
        if not isinstance(gradient, DTensor) or not isinstance(parameter, DTensor):
            continue
        if gradient.placements != parameter.placements:
            parameter.grad = gradient.redistribute(placements=parameter.placements)


def local_of(tensor: Tensor) -> Tensor:
    """What this rank holds of ``tensor``."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class GradientNorm:
    """The global L2 norm of the gradients of ``parameters``; ``uncounted`` are copies of tied
    parameters that another pipeline stage counts."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        layout: Layout,
        uncounted: Collection[str] = (),
    ) -> None:
        per_stage = layout.mesh.size // layout.mesh.pipeline
        counted = {name: p for name, p in parameters.items() if name not in uncounted}
        self.parameters = list(counted.values())
        pieces = [_num_pieces(parameter) for parameter in self.parameters]
        # Where every rank holds all of the gradient, each can tell the norm by itself.
        self.together = layout.mesh.pipeline > 1 or max(pieces, default=1) > 1
        shares = [number / per_stage if self.together else 1.0 for number in pieces]
        self.shares = torch.tensor(shares, dtype=torch.float64, device=layout.world.device)

    def __call__(self) -> Tensor:
        """The norm as a scalar in float32, equal on every rank. A collective."""
        local = [local_of(p.grad) for p in self.parameters if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(local)) if local else self.shares
        squares = (norms.double().square() * self.shares).sum()
        if self.together:
            torch.distributed.all_reduce(squares)
        return squares.sqrt().float()


def _num_pieces(parameter: Tensor) -> int:
    """Into how many different pieces a parameter is cut; the ranks beyond hold copies."""
    if not isinstance(parameter, DTensor):
        return 1
    sizes = parameter.device_mesh.shape
    pieces = 1
    for size, placement in zip(sizes, parameter.placements, strict=True):
        pieces *= 1 if placement.is_replicate() else size
    return pieces
