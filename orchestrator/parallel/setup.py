"""What is given to training, and what comes back?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.job import Job
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage


@dataclass(frozen=True)
class TrainSetup:
    """What to train, on what, and from where; equal on every worker but for the device.

    ``store`` is the folder of the sample store, ``run`` that of the run. ``resume`` names a
    checkpoint relative to the run, or nothing to begin anew. ``checkpoint_due(step)`` says
    whether to checkpoint after that many steps; the last step always has one.
    """

    plan: Plan
    job: Job
    store: Storage
    run: Storage
    attempt: int
    checkpoint_due: Callable[[int], bool]
    resume: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class TrainResult:
    """Where training ended: after ``step`` steps, by request if ``stopped``.

    ``checkpoint`` is the last one, relative to the run, and ``metrics`` those of its evaluation.
    """

    step: int
    stopped: bool
    checkpoint: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)
