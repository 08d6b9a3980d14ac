"""What is given to training, and what comes back?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.job import Job
from orchestrator.plan.cadence import FailureHistory
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage


@dataclass(frozen=True)
class TrainSetup:
    """What to train, on what, and from where; equal on every worker but for the device.

    ``store`` is the folder of the sample store, ``run`` that of the run. ``resume`` names a
    checkpoint relative to the run, or nothing to begin anew. ``failures`` is what
    the run's past says about them, for ``every: auto``. ``micro_batch`` is the most samples that a
    forward pass may take, where memory did not suffice for more; without it, as the plan says.
    What it leaves of a share is accumulated, so the global batch and its gradient stay the same;
    only what a Job draws at random, or takes over a micro-batch (batch norm), depends on it.
    """

    plan: Plan
    job: Job
    store: Storage
    run: Storage
    attempt: int
    failures: FailureHistory = field(default_factory=FailureHistory)
    resume: str | None = None
    device: str = "cpu"
    micro_batch: int | None = None


@dataclass(frozen=True)
class TrainResult:
    """Where training ended: after ``step`` steps, by request if ``stopped``, at once or
    at a checkpoint.

    ``checkpoint`` is the last one, relative to the run, and ``metrics`` those of its evaluation.
    """

    step: int
    stopped: bool
    checkpoint: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)
