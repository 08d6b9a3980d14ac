"""The coordination axis: placing the gang, committing checkpoints, restarting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.plan.counts import CountOrAuto
from orchestrator.plan.quantities import Deadline
from orchestrator.plan.section import Section


class Gang(Section):
    """The joint reservation of all bundles: all or nothing."""

    timeout: Deadline = 120.0
    """How long to wait for the gang to be placed before everything is released."""
    attempts: Annotated[int, Field(ge=1)] = 1
    """How often to try, each time for ``timeout``, with a growing pause in between."""
    placement: Literal["prefer", "strict"] = "prefer"
    """What to do where a tensor·pipeline group finds no node for itself: go on and say the price
    (``prefer``), or refuse (``strict``)."""
    topology: tuple[str, ...] = ()
    """Node labels that say what lies near, from the nearest to the farthest, as in
    ``[nvlink-domain, rack]``. The node itself comes before all of them."""


class Checkpoint(Section):
    """When the state of training is committed, and how long it is kept."""

    every: CountOrAuto = "auto"
    """Steps between two checkpoints; ``auto`` finds the interval that costs least, from what a
    checkpoint costs and how often something fails. The last step always has one."""
    keep: Annotated[int, Field(ge=1)] = 3
    """The newest so many are kept."""
    keep_best: Annotated[int, Field(ge=1)] = 1
    """And so many of the best."""
    asynchronous: bool = True
    """Train on while a checkpoint is written; only the copy to host memory is waited for."""
    mtbf: Deadline = 86_400.0
    """Mean time between failures of the whole run, for ``every: auto``, until the run has failures
    of its own to count."""


class Restarts(Section):
    """How often each cause of a restart is forgiven; ``-1``: always."""

    preemption: Annotated[int, Field(ge=-1)] = -1
    """A node was taken away with notice."""
    node: Annotated[int, Field(ge=-1)] = 10
    """A node died."""
    worker: Annotated[int, Field(ge=-1)] = 5
    """A worker process died."""
    oom: Annotated[int, Field(ge=-1)] = 1
    """A worker ran out of memory."""
    hang: Annotated[int, Field(ge=-1)] = 2
    """A worker stopped making progress."""
    user: Annotated[int, Field(ge=-1)] = 0
    """The Job's own code raised."""


class Budget(Section):
    """What a run may use up, over all of its attempts, before it is stopped with exit code 5."""

    hours: Annotated[float, Field(gt=0)] | None = None
    """Wall time, in hours."""
    cost: Annotated[float, Field(gt=0)] | None = None
    """Money, in the currency of ``price_per_hour``."""


class Coordination(Section):
    """How the run is placed, made durable and restarted."""

    priority: int = 0
    """Runs of higher priority are placed first, and may shrink elastic runs of lower priority to
    their fewest workers."""
    gang: Gang = Gang()
    """The joint reservation."""
    checkpoint: Checkpoint = Checkpoint()
    """When state is committed."""
    restarts: Restarts = Restarts()
    """How often each cause of a restart is forgiven."""
    stop_timeout: Deadline = 60.0
    """How long a stop may take: the step under way and a last checkpoint."""
    hang_timeout: Deadline = 600.0
    """How long a step may take on any worker before the group is restarted (cause ``hang``)."""
    start_timeout: Deadline = 300.0
    """How long workers may take from being placed to their first finished step."""
    suspect_after: Deadline = 5.0
    """A node whose workers all say nothing for so long is suspected, and lost after twice that."""
    regrow_after: Deadline = 60.0
    """How long a run keeps its workers before it grows onto nodes that are new or free again."""
    standby: bool = True
    """Keep a process warm for each worker, so that a restart need not wait for imports."""
    standby_after: Deadline = 60.0
    """How long a group steps before they are started: on cores that workers fill, their imports
    cost steps, which a run that is over in a minute never gets back."""
    price_per_hour: Annotated[float, Field(gt=0)] | None = None
    """What one worker costs for one hour, in any currency."""
    budget: Budget = Budget()
    """What the run may use up."""
