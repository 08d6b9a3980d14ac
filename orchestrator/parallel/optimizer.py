"""Which optimizer does the plan mean, and what is its state called?

State is kept by parameter name, so that it belongs to no rank and to no order of parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.plan.training import SGD, AdamW


def build_optimizer(model: nn.Module, spec: AdamW | SGD) -> torch.optim.Optimizer:
    """The optimizer over the model's trainable parameters.

    Parameters of two or more dimensions decay; biases and norms do not. The fused kernels
    are used; the learning rate is set at every step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TypeError(f"{type(model).__name__} has no parameter that requires a gradient")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if isinstance(spec, SGD):
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, eps=spec.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def create_state(optimizer: torch.optim.Optimizer) -> None:
    """Allocate the state that the first step would, to load a saved one into it.

    Runs one step on zero gradients; parameters and state mean nothing until both are loaded.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def named_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``{"<parameter>/<part>": tensor}``, such as ``"0.weight/exp_avg"``; the live tensors."""
    return {
        f"{name}/{part}": value
        for name, parameter in model.named_parameters()
        for part, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
