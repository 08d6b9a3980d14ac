"""Where does a run stand? The one value from which every decision is made.

Knows what is committed, held, used up and waited for. Does not know how any of it is done:
no Ray, no files, no clock. It is never stored as such; it is the fold of the run's journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.coordinator.ledger import Ledger
from orchestrator.coordinator.policy import Cause, RunPolicy
from orchestrator.coordinator.record import Record

Phase = Literal[
    "new",  # never opened
    "reserving",  # the gang is asked for
    "sharding",  # the sample store is built, or found complete
    "training",  # a worker group is starting or stepping
    "stopping",  # the workers were asked to leave; their last checkpoint is awaited
    "deploying",  # the promoted checkpoint is being brought up
    "serving",  # the app is up
    "ending",  # the outcome is known; what is held is being given back
    "ended",  # nothing is held
]

StopBy = Literal["ctrl-c", "request", "sigterm"]
"""Who may ask for a stop."""

ResizeKind = Literal["grow", "yield"]
"""``grow``: nodes are new or free again; ``yield``: a run of higher priority needs the room."""

GangStatus = Literal["none", "asked", "held"]

Busy = Literal["none", "data", "workers"]
"""Whose processes may be alive: data tasks from ``BuildStore`` on, workers from
``StartTraining`` on."""

App = Literal["none", "up", "left"]
"""``up``: an app may be up from ``Deploy`` on, and is torn down at the end; ``left``: it was
left to the cluster on purpose."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord(Record):
    """One committed checkpoint. ``step`` counts finished optimizer steps; ``folder`` is
    relative to the run; ``metrics`` is empty where evaluation was off or interrupted."""

    step: int
    attempt: int
    folder: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    at_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BadFile(Record):
    """A source file that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class StoreRecord(Record):
    """The sample store the run trains on. ``num_bad_files`` counts all unreadable files,
    ``bad_files`` names the first of them; ``folder`` is where it lies (a URI)."""

    key: str
    content_hash: str
    num_samples: int
    num_shards: int = 0
    size_bytes: int = 0
    reused: bool = False
    folder: str = ""
    num_bad_files: int = 0
    bad_files: tuple[BadFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wait(Record):
    """What the run is waiting for, and for how long at most.

    ``since`` is the number of the accepted event that began the wait: a carrier that keeps
    time starts a new timer whenever the value differs from the one it has, and returns it
    with ``Expired``, so that an expiry of an earlier wait is told apart.
    """

    what: str
    timeout_seconds: float
    since: int


@dataclass(frozen=True, kw_only=True)
class Stop(Record):
    """A stop that was asked for, or came because a budget is spent: ``why`` says of which."""

    by: StopBy | Literal["budget"]
    at_seconds: float
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class QueuePlace(Record):
    """The run waits for its gang as the ``position``-th of ``of`` runs, and why."""

    position: int
    of: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Resize(Record):
    """The workers are to leave, so that a group of up to ``workers`` can take their place.

    ``note`` says why. ``left``: they have; it lasts until the next group's first step.
    """

    kind: ResizeKind
    workers: int
    note: str = ""
    left: bool = False


@dataclass(frozen=True, kw_only=True)
class Drain(Record):
    """``nodes`` of the gang are going to be taken away, and ``why``; the workers were asked for a
    last checkpoint within ``timeout_seconds``."""

    nodes: tuple[str, ...]
    timeout_seconds: float
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome(Record):
    """How the run (up to now) ended: an exit code of ``orchestrator.errors`` and one
    sentence. ``user_traceback`` is the user's own, where their code raised."""

    exit_code: int
    message: str
    user_traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class RunState(Record):
    """Where one run stands.

    ``attempt`` is 0 before the first ``Opened``. ``committed`` is in order of step and holds
    only what may be resumed from or served. ``doomed`` are folders whose deletion was asked
    for and not yet confirmed, ``damaged`` those set aside. ``restarts_used`` counts per cause
    since the last ``Opened``. ``workers`` is K of the gang that is held, ``last_workers`` of the
    last one that was and ``placement`` why it was that many. ``recovering`` is the
    cause of the loss being repaired, until the next first step. ``started`` is set by the first
    step of the present worker group. ``num_events`` counts accepted events.

    ``nodes`` are those of the gang that is held, as far as they were told. ``excluded`` nodes must
    not be in the next gang, for they are lost or going; nor must ``suspects``, which say nothing.
    ``gang_tried`` counts tries of the present reservation that timed out, ``queue`` is the run's
    place while it waits for one. ``most_workers`` is what the run has yielded down to, until it
    may grow again. ``micro_batch`` is the size of micro-batches that memory is known to allow at
    most, ``None`` while the plan's own does. ``num_crowded_out`` counts how often, since the last
    ``Opened``, somebody else took the replicas' places before the app had them. ``ledger`` says
    where the time went.

    ``num_failures`` counts losses of a worker group, or of its driver, that were not the Job's
    own fault, over the whole run, ``trained_seconds`` the time that workers were at work and
    ``restart_seconds`` what the last restarts took; ``lost_at_seconds`` is when the loss being
    repaired was noticed.
    """

    name: str = ""
    phase: Phase = "new"
    attempt: int = 0
    policy: RunPolicy | None = None
    plan_hash: str = ""
    num_events: int = 0
    wait: Wait | None = None
    gang: GangStatus = "none"
    workers: int = 0
    last_workers: int = 0
    placement: str = ""
    nodes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    gang_tried: int = 0
    queue: QueuePlace | None = None
    most_workers: int | None = None
    resize: Resize | None = None
    drain: Drain | None = None
    micro_batch: int | None = None
    busy: Busy = "none"
    store: StoreRecord | None = None
    store_ready: bool = False
    started: bool = False
    step: int = 0
    committed: tuple[CheckpointRecord, ...] = ()
    num_evaluated: int = 0
    doomed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    restarts_used: Mapping[Cause, int] = field(default_factory=dict)
    num_restarts: int = 0
    num_resizes: int = 0
    num_failures: int = 0
    trained_seconds: float = 0.0
    restart_seconds: tuple[float, ...] = ()
    lost_at_seconds: float | None = None
    recovering: Cause | None = None
    promoted: CheckpointRecord | None = None
    promotion_reason: str = ""
    app: App = "none"
    url: str | None = None
    num_crowded_out: int = 0
    example_pending: bool = False
    stop: Stop | None = None
    outcome: Outcome | None = None
    opened_at_seconds: float = 0.0
    phase_since_seconds: float = 0.0
    updated_at_seconds: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def newest(self) -> CheckpointRecord | None:
        """The committed checkpoint of the highest step: where a resume goes on."""
        return self.committed[-1] if self.committed else None

    @property
    def committed_step(self) -> int:
        """Optimizer steps that no fault can take back; 0 before the first checkpoint."""
        return self.committed[-1].step if self.committed else 0

    @property
    def steps(self) -> int:
        """Optimizer steps the plan asks for; 0 before the run was opened."""
        return self.policy.steps if self.policy else 0

    @property
    def stepping(self) -> bool:
        """Whether a worker group is at work, from its first step until it has left."""
        return self.started and self.phase in ("training", "stopping")

    @property
    def trained(self) -> bool:
        """Whether all steps of the plan are committed."""
        return self.policy is not None and self.committed_step >= self.policy.steps
