"""What is there to tell about a run? Everything a report says, gathered as one value.

Reads journal and metrics once. How it is told is in ``report``.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.state import CheckpointRecord, RunState
from orchestrator.observe.journal import Journal
from orchestrator.observe.metrics_log import Record, lasting, read_metrics
from orchestrator.observe.timeline import History, Stretch, history
from orchestrator.storage import Storage


@dataclass(frozen=True)
class Commit:
    """A checkpoint that was committed at some time, and what became of it:
    ``kept``, ``deleted``, ``damaged`` or ``promoted``."""

    record: CheckpointRecord
    fate: str


@dataclass(frozen=True)
class Example:
    """The plan's example request, and its answer or what went wrong."""

    request: Any
    answer: Any = None
    checkpoint: str = ""
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class GroupLoss:
    """A worker group that was lost, in which attempt and why."""

    attempt: int
    cause: str
    message: str


@dataclass(frozen=True)
class ForecastFacts:
    """What was predicted beside what was measured, as words: a row for each quantity (its name,
    predicted, measured, error), what limited the run, the change that would help most, and why
    nothing was predicted."""

    rows: tuple[tuple[str, str, str, str], ...] = ()
    limited: str = ""
    would_help: str = ""
    missing: str = ""


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report tells.

    ``about`` says what ran, ``places`` where things lie, ``commands`` how to do what a person
    may want to do next; ``request_url`` is where the example went. ``num_skipped`` steps came to
    no finite loss, those that a rollback took back included. ``num_events_removed`` of the first
    events are no longer kept: phases, checkpoints and losses of that time are told as far as the
    state knows them. ``remarks`` are what else was passed over in the journal.
    """

    state: RunState
    title: str
    about: Mapping[str, str] = field(default_factory=dict)
    stretches: tuple[Stretch, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    num_steps_lost: int = 0
    num_skipped: int = 0
    num_rollbacks: int = 0
    samples_per_second: float | None = None
    data_share: float | None = None
    commits: tuple[Commit, ...] = ()
    group_losses: tuple[GroupLoss, ...] = ()
    example: Example | None = None
    request_url: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    torn: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    num_events_removed: int = 0
    forecast: ForecastFacts | None = None


def gather_facts(
    storage: Storage,
    name: str,
    *,
    command: str,
    request_url: str = "",
    about: Mapping[str, str] | None = None,
    places: Mapping[str, str] | None = None,
    forecast: ForecastFacts | None = None,
) -> ReportFacts:
    """The facts of the run ``name`` below ``storage`` (the plan's).

    ``command`` is what starts or resumes the run; ``request_url`` the full address the example
    is posted to; ``about`` and ``places`` are added to what the run's folder tells by itself;
    ``forecast`` is what was expected, beside what came of it.
    Raises ``DamagedError`` when the journal cannot be read.
    """
    run = storage.child(name)
    journal = Journal(run)
    past = journal.fold(lambda before, events: history(events, before), whole=True)
    metrics = read_metrics(run)
    taken = metrics.of_kind("step")
    counted = lasting(taken)
    return ReportFacts(
        state=past.state,
        title=name,
        about={**(about or {}), **_about(past)},
        stretches=past.stretches,
        losses=tuple((int(each["step"]), float(each["loss"])) for each in counted),
        num_steps_lost=len(taken) - len(counted),
        num_skipped=len(metrics.of_kind("skipped")),
        num_rollbacks=len(metrics.of_kind("rolled-back")),
        samples_per_second=_rate(counted),
        data_share=_data_share(counted),
        commits=_commits(past),
        group_losses=_group_losses(past.events),
        example=_example(past.events),
        request_url=request_url,
        places={**_places(run), **(places or {})},
        commands=_commands(past.state, run, command),
        torn=journal.torn,
        remarks=journal.remarks,
        num_events_removed=past.before.num_events,
        forecast=forecast,
    )


def _rate(records: Iterable[Record]) -> float | None:
    """Samples per second over all steps but the first of each attempt, which pays for starting
    up. A record's ``num_samples`` is the global batch."""
    seconds = samples = 0.0
    attempt = -1
    for record in records:
        if record.get("attempt") == attempt and "step_seconds" in record:
            seconds += record["step_seconds"]
            samples += record.get("num_samples", 0)
        attempt = record.get("attempt", -1)
    return samples / seconds if seconds > 0 and samples else None


def _data_share(records: Iterable[Record]) -> float | None:
    timed = [each for each in records if "data_seconds" in each and "step_seconds" in each]
    total = sum(each["step_seconds"] for each in timed)
    return sum(each["data_seconds"] for each in timed) / total if total else None


def _commits(past: History) -> tuple[Commit, ...]:
    state = past.state
    kept = {record.folder for record in state.committed}
    promoted = state.promoted.folder if state.promoted else ""
    committed = [
        event.checkpoint for event in past.events if isinstance(event, ev.CheckpointCommitted)
    ]
    found = []
    for record in (*past.before.committed, *committed):
        folder = record.folder
        fate = "kept" if folder in kept else "deleted"
        fate = "damaged" if folder in state.damaged else fate
        found.append(Commit(record, "promoted" if folder == promoted else fate))
    return tuple(found)


def _about(past: History) -> dict[str, str]:
    placed = [each.workers for each in past.events if isinstance(each, ev.GangPlaced)]
    counts = [str(workers) for workers in (past.before.last_workers, *placed) if workers > 0]
    known = {"workers": ", then ".join(_runs_of(counts)), "plan": past.state.plan_hash[:12]}
    return {what: value for what, value in known.items() if value}


def _runs_of(values: Iterable[str]) -> list[str]:
    return [value for value, _ in itertools.groupby(values)]


def _group_losses(events: Iterable[ev.Event]) -> tuple[GroupLoss, ...]:
    return tuple(
        GroupLoss(event.attempt, event.cause, event.message)
        for event in events
        if isinstance(event, ev.TrainingFailed)
    )


def _example(events: Iterable[ev.Event]) -> Example | None:
    found = None
    for event in events:
        if isinstance(event, ev.ExampleAnswered):
            found = Example(event.request, event.answer, event.checkpoint, event.seconds)
        if isinstance(event, ev.ExampleFailed):
            found = Example(None, error=event.message)
    return found


def _places(run: Storage) -> dict[str, str]:
    known = {
        "run": "",
        "plan as resolved": "plan.yaml",
        "events": "journal",
        "step metrics": "metrics",
        "prediction": "prediction.json",
        "predicted and measured": "comparison.json",
        "checkpoints": "checkpoints",
        "logs": "logs",
    }
    return {what: run.child(path).name for what, path in known.items() if run.exists(path)}


def _commands(state: RunState, run: Storage, command: str) -> dict[str, str]:
    """What one may want to do next. By its folder a run is found from any working directory."""
    place = shlex.quote(run.name)
    code = state.outcome.exit_code if state.outcome else 1
    commands = {}
    if code == 0 and state.policy and state.policy.promotion:
        commands["serve again"] = f"{command} --keep-serving"
    if code == 0:
        commands["train further"] = f"{command} training.steps={2 * max(1, state.steps)}"
    else:
        commands["resume"] = command
    commands["start anew"] = f"{command} --fresh"
    commands["look at it"] = f"axis status {place}"
    commands["read its logs"] = f"axis logs {place}"
    return commands
