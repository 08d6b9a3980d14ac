"""What a run may do, taken from the plan: budgets, deadlines, promotion, what is kept.

Knows the plan. Does not know states, events or Ray. A driver start (``Opened``) carries its
policy into the journal, so that replaying a journal needs no plan and a plan whose free
fields changed between two attempts cannot rewrite the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.coordinator.record import Record
from orchestrator.plan.inference import Inference
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import micro_batches

Cause = Literal["preemption", "node", "worker", "oom", "hang", "user"]
"""Why a worker group was lost; each cause has its own budget in ``coordination.restarts``."""

CAUSES: tuple[Cause, ...] = ("preemption", "node", "worker", "oom", "hang", "user")

KeepServing = Literal["no", "attached", "detached"]
"""What becomes of the app once it is up (and its example answered).

``no``: torn down, the run ends. ``attached``: serves until somebody asks the run to stop.
``detached``: the run ends and leaves the app to the cluster.
"""

PREEMPTION_GRACE_SECONDS = 30.0
"""How soon a node is gone, where the notice does not say it: what clouds give at the least."""

PROGRESS_TIMEOUT_SECONDS = 600.0
"""How long sharding or training may go without any sign of progress."""


@dataclass(frozen=True, kw_only=True)
class Promotion(Record):
    """How the checkpoint to serve is chosen: best by ``metric``, if the gate lets it pass.

    ``below`` and ``above`` bound ``gate_metric`` strictly; ``None`` leaves that side open.
    """

    metric: str
    mode: Literal["min", "max"]
    gate_metric: str | None = None
    below: float | None = None
    above: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunPolicy(Record):
    """Everything ``decide`` needs to know about the plan.

    The newest ``keep`` checkpoints are kept, and ``keep_best`` of the best: by what the promotion
    looks at, else by the loss on held-out samples.
    ``workers`` are the legal worker counts, largest first. ``restarts`` maps each cause to
    its budget per driver start (-1: always). ``promotion`` is ``None`` without an inference
    axis. With ``release_before_deploy`` the gang is given back before the replicas are
    placed; with ``hand_over`` it is kept until they ask for their places, so that nobody else
    takes them; otherwise they are placed inside it.

    ``micro_batches`` are the legal sizes of a micro-batch per worker count, largest first; where
    they are not known, as in journals of earlier versions, nothing follows from them.
    """

    steps: int
    workers: tuple[int, ...]
    restarts: Mapping[Cause, int]
    keep: int
    gang_timeout_seconds: float
    start_timeout_seconds: float
    stop_timeout_seconds: float
    progress_timeout_seconds: float = PROGRESS_TIMEOUT_SECONDS
    hang_timeout_seconds: float = 600.0
    serve_timeout_seconds: float = 120.0
    promotion: Promotion | None = None
    replicas: int = 0
    has_example: bool = False
    keep_serving: KeepServing = "no"
    release_before_deploy: bool = False
    strategy: Literal["PACK", "SPREAD"] = "PACK"
    keep_best: int = 1
    hand_over: bool = False
    priority: int = 0
    gang_attempts: int = 1
    suspect_after_seconds: float = 5.0
    regrow_after_seconds: float = 60.0
    preemption_grace_seconds: float = PREEMPTION_GRACE_SECONDS
    micro_batches: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    price_per_hour: float | None = None
    budget_hours: float | None = None
    budget_cost: float | None = None

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a policy under which no run can make progress."""
        if self.steps < 1 or self.keep < 1 or not self.workers or min(self.workers) < 1:
            raise ValueError(
                f"steps={self.steps}, keep={self.keep} and each of workers={self.workers} "
                "must be at least 1"
            )


def policy_of(
    plan: Plan,
    *,
    workers: Sequence[int],
    keep_serving: KeepServing = "no",
    release_before_deploy: bool = False,
    hand_over: bool = False,
    progress_timeout_seconds: float = PROGRESS_TIMEOUT_SECONDS,
) -> RunPolicy:
    """The policy of one driver start.

    ``workers`` are the legal worker counts in any order (``plan.sizes.legal_workers``); raises
    ``ValueError`` when there is none.
    """
    if not workers:
        raise ValueError("no legal worker count: the plan cannot be carried out at any size")
    coordination = plan.coordination
    inference, gang, budget = plan.inference, coordination.gang, coordination.budget
    return RunPolicy(
        steps=plan.training.steps,
        workers=tuple(sorted(set(workers), reverse=True)),
        restarts={cause: getattr(coordination.restarts, cause) for cause in CAUSES},
        keep=coordination.checkpoint.keep,
        keep_best=coordination.checkpoint.keep_best,
        gang_timeout_seconds=gang.timeout,
        start_timeout_seconds=coordination.start_timeout,
        stop_timeout_seconds=coordination.stop_timeout,
        progress_timeout_seconds=progress_timeout_seconds,
        hang_timeout_seconds=coordination.hang_timeout,
        serve_timeout_seconds=inference.timeout if inference else 120.0,
        promotion=_promotion(inference) if inference else None,
        replicas=inference.replicas.min if inference else 0,
        has_example=inference is not None and inference.example is not None,
        keep_serving=keep_serving,
        release_before_deploy=release_before_deploy and not hand_over,
        hand_over=hand_over,
        priority=coordination.priority,
        gang_attempts=gang.attempts,
        suspect_after_seconds=coordination.suspect_after,
        regrow_after_seconds=coordination.regrow_after,
        micro_batches={count: micro_batches(plan, count) for count in workers},
        price_per_hour=coordination.price_per_hour,
        budget_hours=budget.hours,
        budget_cost=budget.cost,
    )


def _promotion(inference: Inference) -> Promotion:
    promote = inference.promote
    gate = promote.when
    return Promotion(
        metric=promote.metric,
        mode=promote.mode,
        gate_metric=gate.metric if gate else None,
        below=gate.below if gate else None,
        above=gate.above if gate else None,
    )
