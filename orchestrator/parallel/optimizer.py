"""Which optimizer does the plan mean, and what is its state called?

State is kept by parameter name, so that it belongs to no rank and to no order of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from orchestrator.parallel.parts import Parts
from orchestrator.plan.training import SGD, AdamW


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], spec: AdamW | SGD
) -> torch.optim.Optimizer:
    """The optimizer over the trainable ones of named ``parameters``.

    Parameters of two or more dimensions decay; biases and norms do not. The fused kernels
    are used where there are any, for which parameters on different meshes are kept apart. The
    learning rate is set at every step.
    """
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    if not trained:
        raise TypeError("the model has no parameter that requires a gradient")
    groups: dict[tuple[bool, object], list[nn.Parameter]] = {}
    for parameter in trained:
        groups.setdefault((parameter.ndim >= 2, _mesh_of(parameter)), []).append(parameter)
    options = [
        {"params": group, "weight_decay": spec.weight_decay if decays else 0.0}
        for (decays, _), group in groups.items()
    ]
    if isinstance(spec, SGD):
        # DTensor has no fused kernel of it.
        how = {"foreach" if any(map(_mesh_of, trained)) else "fused": True}
        return torch.optim.SGD(options, lr=spec.lr, momentum=spec.momentum, **how)
    return torch.optim.AdamW(options, lr=spec.lr, betas=spec.betas, eps=spec.eps, fused=True)


def _mesh_of(parameter: Tensor) -> object:
    return parameter.device_mesh if isinstance(parameter, DTensor) else None


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def create_state(optimizer: torch.optim.Optimizer) -> None:
    """Allocate the state that the first step would, as it is before any step.

    So there is a place to load a saved one into, and a checkpoint has the same tensors at every
    step. Takes one step on zero gradients with a learning rate of 0, which moves nothing, and
    forgets that it was one.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    set_learning_rate(optimizer, 0.0)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):  # a step count, or a momentum that holds some decay
                value.zero_()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def named_state(parts: Parts, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``{"<parameter>/<part>": tensor}``, such as ``"0.weight/exp_avg"``; the live tensors.

    Parameters by their canonical names, of those that this rank holds.
    """
    return {
        f"{name}/{part}": value
        for name, parameter in parts.parameters().items()
        for part, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def state_bytes(parameters: Iterable[Tensor], spec: AdamW | SGD) -> int:
    """About what one rank's share of parameters and optimizer state takes, for an estimate."""
    copies = 3 if isinstance(spec, AdamW) else 1 + (spec.momentum > 0)
    local = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    return sum(part.numel() * part.element_size() for part in local) * copies
