"""The training axis: how many workers take one global step together, and how they step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from orchestrator.plan.counts import CountOrAuto, CountOrRange, Span
from orchestrator.plan.resources import Resources
from orchestrator.plan.section import Section, as_tuple, kind_or

Share = Annotated[float, Field(ge=0, lt=1)]
"""A number from 0 to below 1."""


class AdamW(Section):
    """``torch.optim.AdamW``."""

    kind: Literal["adamw"] = "adamw"
    """Selects this optimizer."""
    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Peak learning rate."""
    betas: Annotated[tuple[Share, Share], BeforeValidator(as_tuple)] = (0.9, 0.95)
    """Decay of the two moment estimates."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay; applied to parameters of two or more dimensions."""


class SGD(Section):
    """``torch.optim.SGD``."""

    kind: Literal["sgd"] = "sgd"
    """Selects this optimizer."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay; applied to parameters of two or more dimensions."""


Optimizer = Annotated[AdamW | SGD, Field(discriminator="kind"), BeforeValidator(kind_or("adamw"))]
"""The optimizer, told apart by ``kind``; ``adamw`` where none is given."""


class Schedule(Section):
    """The learning rate over steps: linear warm-up, then decay to ``floor``."""

    decay: Literal["cosine", "linear", "none"] = "cosine"
    """The shape after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 10
    """Steps from 0 to the peak; a run of fewer steps only warms up."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The last learning rate, as a share of the peak."""


class Evaluate(Section):
    """Evaluation on held-out samples, at every checkpoint but an interrupted one."""

    samples: Annotated[int, Field(ge=0)] = 512
    """At most so many held-out samples, the same ones each time; 0 turns evaluation off."""


class NonFinite(Section):
    """What happens when a loss or a gradient norm is not a finite number."""

    max_skips: Annotated[int, Field(ge=0)] = 3
    """So many such steps in a row are skipped: their samples are used up, nothing is learned."""
    then: Literal["stop", "rollback"] = "stop"
    """After that: end with exit code 1, or go back to the last checkpoint and pass over the
    samples of these steps."""
    max_rollbacks: Annotated[int, Field(ge=1)] = 2
    """So many rollbacks in a run; the next one ends it."""


class Training(Section):
    """Gradient descent on workers that together take one global batch a step."""

    workers: CountOrRange = Span(min=1, max=1)
    """K: how many workers, or ``[min, max]`` for an elastic run."""
    resources: Resources = Resources()
    """What one worker occupies."""
    global_batch: Annotated[int, Field(ge=1)] = 32
    """B: samples per optimizer step, whatever K is."""
    micro_batch: CountOrAuto = "auto"
    """Samples per forward pass of a worker; ``auto``: the share of one worker at the largest K,
    or the largest divisor below it where a smaller K needs one."""
    steps: Annotated[int, Field(ge=1)] = 200
    """Optimizer steps in all."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` computes under autocast; parameters and optimizer state stay in float32."""
    optimizer: Optimizer = AdamW()
    """How parameters move."""
    schedule: Schedule = Schedule()
    """The learning rate over steps."""
    max_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    non_finite: NonFinite = NonFinite()
    """Steps whose loss or gradient norm is not a finite number."""
    evaluate: Evaluate = Evaluate()
    """Evaluation on held-out samples."""
    prefetch: Annotated[int, Field(ge=1)] = 4
    """Steps the loader reads ahead."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one worker (``OMP_NUM_THREADS``)."""
    log_samples: bool = False
    """Write the ids of all samples each worker computes into the metrics, to audit exactly-once."""
