"""What happened? Everything a run is told, each thing once, in the order it was accepted.

Events are facts from the driver, from workers and from the actor's own hands, or what the
scheduler of runs wants of this one. Each carries the attempt it belongs to; ``at_seconds`` is the
sender's wall clock, kept for people and for the ledger, and never compared to decide anything. This
module knows their shape and their JSON, not what follows from them (``decide``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.coordinator.policy import Cause, RunPolicy
from orchestrator.coordinator.record import Record
from orchestrator.coordinator.state import CheckpointRecord, ResizeKind, StopBy, StoreRecord
from orchestrator.errors import DamagedError


@dataclass(frozen=True, kw_only=True)
class BaseEvent(Record):
    """What every event says: whose attempt it is, and when its sender saw it."""

    attempt: int
    at_seconds: float


@dataclass(frozen=True, kw_only=True)
class Opened(BaseEvent):
    """A driver started. ``attempt`` must be the last one plus one: it fences all before.

    ``holder`` says who the driver is, for people (``pid 1234 on host``).
    """

    kind: Literal["opened"] = "opened"
    name: str
    policy: RunPolicy
    plan_hash: str = ""
    holder: str = ""


@dataclass(frozen=True, kw_only=True)
class GangPlaced(BaseEvent):
    """Every bundle of the gang is placed, on ``nodes``; it holds ``workers`` training workers.
    ``note`` says which mesh they form and why it is this one."""

    kind: Literal["gang-placed"] = "gang-placed"
    workers: int
    nodes: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class GangTimedOut(BaseEvent):
    """The gang was not placed in time, and everything was released. ``message`` names what was
    missing; ``tried`` is that of the ``ReserveGang`` that this answers."""

    kind: Literal["gang-timed-out"] = "gang-timed-out"
    message: str
    tried: int = 0


@dataclass(frozen=True, kw_only=True)
class Queued(BaseEvent):
    """The gang waits for other runs, as the ``position``-th of ``of`` that wait, and ``why``.
    Send it when that changes."""

    kind: Literal["queued"] = "queued"
    position: int
    of: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class ResizeWanted(BaseEvent):
    """The run should grow to up to ``workers`` at its next checkpoint, or yield down to them at
    once. ``since_placed_seconds``: how long ago its gang was placed, by one clock."""

    kind: Literal["resize-wanted"] = "resize-wanted"
    resize: ResizeKind
    workers: int
    note: str = ""
    since_placed_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class YieldOver(BaseEvent):
    """Nobody needs the room any more that the run has yielded: it may be as large as it can."""

    kind: Literal["yield-over"] = "yield-over"


@dataclass(frozen=True, kw_only=True)
class DrainNoticed(BaseEvent):
    """``nodes`` will be taken away, in ``grace_seconds`` (``None``: not said), and ``why``."""

    kind: Literal["drain-noticed"] = "drain-noticed"
    nodes: tuple[str, ...]
    grace_seconds: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeSuspected(BaseEvent):
    """``node`` has said nothing for ``silent_seconds``."""

    kind: Literal["node-suspected"] = "node-suspected"
    node: str
    silent_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NodeCleared(BaseEvent):
    """``node`` is well, or well again: it may be used."""

    kind: Literal["node-cleared"] = "node-cleared"
    node: str


@dataclass(frozen=True, kw_only=True)
class Misplaced(BaseEvent):
    """Ranks lie otherwise than the gang was assigned; ``text`` names them and what it costs."""

    kind: Literal["misplaced"] = "misplaced"
    text: str


@dataclass(frozen=True, kw_only=True)
class StoreReady(BaseEvent):
    """The sample store is complete: built now, or found."""

    kind: Literal["store-ready"] = "store-ready"
    store: StoreRecord


@dataclass(frozen=True, kw_only=True)
class Progressed(BaseEvent):
    """A sign of life of the present phase; renews its wait. ``done`` counts optimizer steps
    in training, finished data tasks in sharding. Send it sparingly: it is journaled.

    ``stall_seconds`` and ``checkpoint_seconds`` are what the workers waited for samples, and for
    state to be saved, since the first step of their group.
    """

    kind: Literal["progressed"] = "progressed"
    done: int
    total: int = 0
    stall_seconds: float | None = None
    checkpoint_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Straggler(BaseEvent):
    """A worker ``rank``, or a whole ``node`` (``rank`` is ``None``), takes ``ratio`` times as long
    as the others; ``text`` says so."""

    kind: Literal["straggler"] = "straggler"
    text: str
    rank: int | None = None
    node: str = ""
    ratio: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(BaseEvent):
    """The worker group finished its first step; ``step`` counts steps finished by now."""

    kind: Literal["training-started"] = "training-started"
    step: int


@dataclass(frozen=True, kw_only=True)
class CheckpointCommitted(BaseEvent):
    """A checkpoint is whole and durable; its manifest is written.

    Its step was finished ``ahead_seconds`` ago, and the workers have gone on since. Waits are as
    in ``Progressed``.
    """

    kind: Literal["checkpoint-committed"] = "checkpoint-committed"
    checkpoint: CheckpointRecord
    ahead_seconds: float = 0.0
    stall_seconds: float | None = None
    checkpoint_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointDamaged(BaseEvent):
    """A committed checkpoint is no longer what was written; it must not be used again."""

    kind: Literal["checkpoint-damaged"] = "checkpoint-damaged"
    folder: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointsDeleted(BaseEvent):
    """Superseded checkpoints are gone from storage."""

    kind: Literal["checkpoints-deleted"] = "checkpoints-deleted"
    folders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingEnded(BaseEvent):
    """The worker group left its loop in order, after ``step`` steps; ``stopped`` when it was
    asked to rather than done."""

    kind: Literal["training-ended"] = "training-ended"
    step: int
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingFailed(BaseEvent):
    """The worker group is lost. ``user_traceback`` is the user's own (cause ``user``), or where
    the worker ``rank`` hangs (cause ``hang``), whose process is ``pid`` on ``node``. ``nodes`` are
    lost with it, and not to be used until they are cleared."""

    kind: Literal["training-failed"] = "training-failed"
    cause: Cause
    message: str
    user_traceback: str = ""
    rank: int | None = None
    pid: int | None = None
    node: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deployed(BaseEvent):
    """The app answers its health check under ``url``."""

    kind: Literal["deployed"] = "deployed"
    url: str


@dataclass(frozen=True, kw_only=True)
class DeployFailed(BaseEvent):
    """The app did not come up; ``crowded_out``: because somebody else took the places of its
    replicas at the hand-over."""

    kind: Literal["deploy-failed"] = "deploy-failed"
    message: str
    user_traceback: str = ""
    crowded_out: bool = False


@dataclass(frozen=True, kw_only=True)
class ExampleAnswered(BaseEvent):
    """The plan's example request was answered; both as JSON values."""

    kind: Literal["example-answered"] = "example-answered"
    request: Any = None
    answer: Any = None
    checkpoint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ExampleFailed(BaseEvent):
    """The plan's example request was not answered."""

    kind: Literal["example-failed"] = "example-failed"
    message: str


@dataclass(frozen=True, kw_only=True)
class StopRequested(BaseEvent):
    """Somebody wants the run to stop."""

    kind: Literal["stop-requested"] = "stop-requested"
    by: StopBy


@dataclass(frozen=True, kw_only=True)
class BudgetSpent(BaseEvent):
    """The run has used up its ``limit`` of ``hours`` of wall time or of ``cost``
    (``budget.over_budget``)."""

    kind: Literal["budget-spent"] = "budget-spent"
    what: Literal["hours", "cost"]
    used: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class Expired(BaseEvent):
    """A wait passed its deadline; ``what`` and ``since`` are those of ``RunState.wait``."""

    kind: Literal["expired"] = "expired"
    what: str
    since: int


@dataclass(frozen=True, kw_only=True)
class Failed(BaseEvent):
    """Something outside the worker group went wrong for good (``exit_code`` of
    ``orchestrator.errors``): a store that cannot be built, a gang that can never fit."""

    kind: Literal["failed"] = "failed"
    exit_code: int
    message: str
    user_traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class TornDown(BaseEvent):
    """Everything the end of the run asked to be given back is gone."""

    kind: Literal["torn-down"] = "torn-down"


Event = (
    Opened
    | GangPlaced
    | GangTimedOut
    | Queued
    | ResizeWanted
    | YieldOver
    | DrainNoticed
    | NodeSuspected
    | NodeCleared
    | Misplaced
    | StoreReady
    | Progressed
    | Straggler
    | TrainingStarted
    | CheckpointCommitted
    | CheckpointDamaged
    | CheckpointsDeleted
    | TrainingEnded
    | TrainingFailed
    | Deployed
    | DeployFailed
    | ExampleAnswered
    | ExampleFailed
    | StopRequested
    | BudgetSpent
    | Expired
    | Failed
    | TornDown
)

EVENT_TYPES: tuple[type[BaseEvent], ...] = get_args(Event)

_ADAPTER: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")],
    config=ConfigDict(ser_json_inf_nan="strings"),  # a loss that became NaN is worth keeping
)


def to_json(event: Event) -> bytes:
    """The event as one line of UTF-8 JSON, without a newline."""
    return _ADAPTER.dump_json(event)


def from_json(line: bytes | str) -> Event:
    """The event ``to_json`` wrote. Raises ``DamagedError`` for an unknown kind, an unknown or
    missing field, or a value of the wrong type, naming it."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "event"
        raise DamagedError(f"not an event of this version: {place}: {first['msg']}") from None
