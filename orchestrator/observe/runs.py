"""Which runs are there, and where does each stand?

Reads what runs left on storage: journal, lease and metrics. Needs no cluster and disturbs
nobody. A folder below the plan's ``storage`` is a run when it has a journal, or a driver that is
about to write one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from orchestrator.coordinator.entries import Position
from orchestrator.coordinator.retention import best_of
from orchestrator.coordinator.state import Phase, RunState
from orchestrator.errors import DamagedError, StorageError
from orchestrator.observe.holder import Holder
from orchestrator.observe.journal import FOLDER as JOURNAL
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.lease import LEASE_FILE, RunLease, peek
from orchestrator.observe.metrics_log import last_step
from orchestrator.observe.spent import goodput_line, ledger_dict
from orchestrator.storage import Storage

Status = Literal[
    "running",  # a driver carries it out
    "queued",  # its driver waits for room
    "lost",  # nobody does, though it has not ended: the same command resumes it
    "interrupted",  # stopped on request, or its budget is spent; the same command resumes it
    "done",
    "gate not met",
    "failed",
    "damaged",  # its journal cannot be read
]

_ASIDE_MARK = ".aside-"
_RESUMABLE = ("lost", "interrupted", "failed")


@dataclass(frozen=True)
class RunView:
    """Where a run stands, for people and programs. Quantities are ``None`` where unknown.

    ``step`` counts optimizer steps taken, ``committed_step`` those that cannot be lost.
    ``best`` is the best value of the metric the plan promotes by. ``aside`` marks a run that
    ``--fresh`` moved away; ``problem`` says why a damaged one cannot be read.
    """

    name: str
    uri: str
    status: Status
    phase: Phase
    attempt: int
    step: int
    steps: int
    committed_step: int
    num_checkpoints: int
    num_restarts: int
    size_bytes: int
    last_loss: float | None = None
    best_metric: str | None = None
    best: float | None = None
    promoted: str | None = None
    url: str | None = None
    holder: Holder | None = None
    exit_code: int | None = None
    message: str = ""
    opened_at_seconds: float | None = None
    updated_at_seconds: float | None = None
    aside: bool = False
    problem: str = ""
    queue: str = ""
    """Its place among those that wait for room, and why; empty unless it waits."""
    priority: int = 0
    goodput: str = ""
    """How much of the time went into steps that count, in words."""
    ledger: Mapping[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether a driver is carrying it out."""
        return self.holder is not None

    @property
    def resumable(self) -> bool:
        """Whether the same command would go on with it."""
        return self.status in _RESUMABLE and not self.aside

    def to_dict(self) -> dict[str, Any]:
        """The view as JSON has it, with what is derived."""
        holder = self.holder.__dict__ if self.holder else None
        derived = {"holder": holder, "live": self.live, "resumable": self.resumable}
        return {**self.__dict__, **derived}


def list_runs(storage: Storage) -> tuple[RunView, ...]:
    """All runs below ``storage`` (the plan's), those set aside included, in order of name."""
    names = [entry.path for entry in storage.list() if entry.is_dir]
    return tuple(view_run(storage, name) for name in names if is_run(storage, name))


def is_run(storage: Storage, name: str) -> bool:
    """Whether the folder ``name`` below ``storage`` holds a run."""
    run = storage.child(name)
    return run.exists(JOURNAL) or peek(run) is not None


def view_run(storage: Storage, name: str) -> RunView:
    """Where the run ``name`` stands. Raises ``StorageError`` when there is no such run."""
    if not is_run(storage, name):
        known = ", ".join(view for view in _names(storage)) or "none"
        raise StorageError(
            f"there is no run {name} in {storage.name}; runs there: {known}\n  works: --storage "
            "FOLDER where runs lie, or --address of the cluster that the run was submitted to"
        )
    run = storage.child(name)
    holder = peek(run)
    try:
        state, problem = replay_state(Journal(run)), ""
    except DamagedError as error:
        state, problem = RunState(name=name), str(error)
    return _view(run, name, state, holder, problem)


def set_aside(storage: Storage, name: str, lease: RunLease | None = None) -> str | None:
    """Move the folder of ``name`` out of the way; returns its new name, ``None`` if there was
    nothing but a lease in it.

    Nothing is deleted. Moved under ``lease`` if the caller has taken it, which afterwards holds
    nothing of worth: release it and acquire anew. Without one, raises ``RunHeld`` while
    somebody carries the run out.
    """
    if all(entry.path == f"{name}/{LEASE_FILE}" for entry in storage.list(name)):
        return None
    aside = _aside_name(storage, name)
    held = lease or RunLease.acquire(storage.child(name), name)
    try:
        storage.move(name, aside)
    finally:
        if lease is None:
            held.release()
    if storage.exists(f"{aside}/{LEASE_FILE}"):
        storage.delete(f"{aside}/{LEASE_FILE}")
    return aside


def _aside_name(storage: Storage, name: str) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    first = f"{name}{_ASIDE_MARK}{stamp}"
    if not storage.exists(first):
        return first
    others = (f"{first}-{number}" for number in itertools.count(2))
    return next(other for other in others if not storage.exists(other))


def _names(storage: Storage) -> list[str]:
    return [entry.path for entry in storage.list() if entry.is_dir and is_run(storage, entry.path)]


def _view(run: Storage, name: str, state: RunState, holder: Holder | None, problem: str) -> RunView:
    policy = state.policy
    opened = policy is not None
    price = policy.price_per_hour if policy else None
    record = last_step(run)
    promotion = policy.promotion if policy else None
    best = best_of(state.committed, promotion.metric, promotion.mode) if promotion else None
    return RunView(
        name=name,
        uri=run.name,
        status=_status(state, holder, problem),
        phase=state.phase,
        attempt=state.attempt,
        step=max(state.step, state.committed_step, _taken(record, state)),
        steps=state.steps,
        committed_step=state.committed_step,
        num_checkpoints=len(state.committed),
        num_restarts=state.num_restarts,
        size_bytes=sum(entry.size_bytes for entry in run.list(recursive=True)),
        last_loss=_number(record.get("loss")) if record else None,
        best_metric=promotion.metric if promotion and best else None,
        best=best.metrics[promotion.metric] if promotion and best else None,
        promoted=state.promoted.folder if state.promoted else None,
        url=state.url if state.app != "none" else None,
        holder=holder,
        exit_code=state.outcome.exit_code if state.outcome else None,
        message=state.outcome.message if state.outcome else "",
        opened_at_seconds=state.opened_at_seconds if opened else None,
        updated_at_seconds=state.updated_at_seconds if opened else None,
        aside=_ASIDE_MARK in name,
        problem=problem,
        queue=_place(state) if holder else "",
        priority=policy.priority if policy else 0,
        goodput=goodput_line(state.ledger, price),
        ledger=ledger_dict(state.ledger, price) if opened else {},
    )


def _place(state: RunState) -> str:
    place = state.queue
    if place is None:
        return ""
    return Position(state.name, place.position, place.of, place.why).render()


def _status(state: RunState, holder: Holder | None, problem: str) -> Status:
    if problem:
        return "damaged"
    if state.phase != "ended" or state.outcome is None:
        if holder and state.queue is not None:
            return "queued"
        return "running" if holder else "lost"
    code = state.outcome.exit_code
    if code == 0:
        return "done"
    if code == 7:
        return "gate not met"
    return "interrupted" if code in (5, 6, 130) else "failed"


def _taken(record: Mapping[str, Any] | None, state: RunState) -> int:
    """The step that the last record tells of, if it is of the attempt that counts."""
    if record is None or record.get("attempt") != state.attempt:
        return 0
    step = record.get("step")
    return step if isinstance(step, int) else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
