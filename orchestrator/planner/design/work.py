"""How many bytes, FLOP and seconds is the work, on one machine?

The quantities that ceilings, sizes and taxes are computed from, each with its formula. It does not
know how the work is split.
"""

from __future__ import annotations

import math

from orchestrator.planner.design.workload import Data, Model, Training, Workload

FLOPS_PER_PARAMETER = 6.0
"""Forward and backward of one token, per active parameter (arXiv:2001.08361, section 2.1)."""
ANSWER_FLOPS_PER_PARAMETER = 2.0
"""Forward alone."""

_SECONDS_PER_DAY = 86_400.0


def planned_bytes(data: Data) -> float:
    """Bytes at the end of the horizon: size + growth · horizon."""
    return data.size + data.growth_per_day * data.horizon / _SECONDS_PER_DAY


def dense_parameters(model: Model) -> float:
    """Parameters that are multiplied, experts and all."""
    return model.parameters - model.sparse_parameters


def active_parameters(model: Model) -> float:
    """Parameters that one sample is multiplied with."""
    return (model.active_parameters or model.parameters) - model.sparse_parameters


def training_bytes(model: Model) -> float:
    """Weights, gradients and optimizer state: P · bytes per parameter in training."""
    return model.parameters * model.training_bytes_per_parameter


def serving_bytes(model: Model, active: bool = False) -> float:
    """Weights when serving: P · bytes per parameter; ``active``: those that one token reads."""
    parameters = active_parameters(model) if active else model.parameters
    return parameters * model.bytes_per_parameter


def flops_per_sample(model: Model, training: Training) -> float:
    """What was given, or 6 · active dense parameters."""
    return training.flops_per_sample or FLOPS_PER_PARAMETER * active_parameters(model)


def num_steps(training: Training) -> int:
    """Optimizer steps of the whole training: samples · epochs / batch, rounded up."""
    return math.ceil(training.samples * training.epochs / training.batch)


def training_seconds(workload: Workload) -> float:
    """The whole training on one machine: measured, or FLOP over what the machine sustains."""
    training, model, machine = workload.training, workload.model, workload.machine
    if training is None or model is None:
        return 0.0
    if training.measured is not None:
        return training.measured
    flops = training.samples * training.epochs * flops_per_sample(model, training)
    return flops / ((machine.flops or math.nan) * machine.num_units)


def parties_apart(workload: Workload) -> int:
    """Parties whose records may not meet; 1 where records may go anywhere."""
    kept = workload.data is not None and not workload.data.may_leave
    return workload.trust.domains if kept else 1
