"""A small language in which runs are told as tables: events left, what follows right.

The right side reads ``phase: Action, Action``; a line that begins with ``!`` is an event that
changes nothing, with its verdict. Attempts are filled in from the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import Decision, decide
from orchestrator.coordinator.policy import Promotion, RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord

PLAN = RunPolicy(
    steps=200,
    workers=(4, 2),
    restarts={"preemption": -1, "node": 1, "worker": 2, "oom": 0, "hang": 1, "user": 0},
    keep=2,
    gang_timeout_seconds=120.0,
    start_timeout_seconds=300.0,
    stop_timeout_seconds=60.0,
    promotion=Promotion(metric="val_loss", mode="min", gate_metric="val_loss", below=6.0),
    replicas=1,
    has_example=True,
)
URL = "http://127.0.0.1:8000/gpt"


@dataclass
class Story:
    """A run that is told event by event."""

    state: RunState = field(default_factory=RunState)
    last: Decision | None = None
    clock: float = 1000.0

    def tell(self, kind: type[ev.BaseEvent], **details: Any) -> str:
        """Tell it and return what came of it, as a row of the table shows it."""
        self.clock += 1
        attempt = details.pop("attempt", self.state.attempt + (kind is ev.Opened))
        event = kind(attempt=attempt, at_seconds=self.clock, **details)
        self.last = decide(self.state, event)  # type: ignore[arg-type]
        if not self.last.accepted:
            return f"! {self.last.verdict}"
        self.state = self.last.state
        names = ", ".join(show(action) for action in self.last.actions) or "-"
        return f"{self.state.phase}: {names}"


SHOWN: dict[type[act.Action], tuple[str, ...]] = {
    act.StartTraining: ("workers", "first_step"),
    act.Deploy: ("step",),
    act.DeleteCheckpoints: ("folders",),
    act.End: ("exit_code",),
    act.ReserveGang: ("workers",),
}
"""What distinguishes an action, by its value alone."""

SHOWN_IF_NOT: dict[type[act.Action], dict[str, Any]] = {
    act.StartTraining: {"micro_batch": None},
    act.Deploy: {"hand_over": False},
    act.ReserveGang: {"tried": 0, "excluded": ()},
    act.StopTraining: {"at_checkpoint": False, "timeout_seconds": PLAN.stop_timeout_seconds},
}
"""What is told by name, where it is not as usual."""


def show(action: act.Action) -> str:
    """The action's name with what distinguishes it."""
    kind, told = type(action), []
    for each in fields(action):
        value = getattr(action, each.name)
        if each.name in SHOWN.get(kind, ()):
            told.append(plainly(value))
        elif value != SHOWN_IF_NOT.get(kind, {}).get(each.name, value):
            told.append(each.name if value is True else f"{each.name}={plainly(value)}")
    shown = kind in SHOWN or told
    return f"{kind.__name__}({' '.join(told)})" if shown else kind.__name__


def plainly(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def opened(policy: RunPolicy = PLAN, **changes: Any) -> tuple[type, dict[str, Any]]:
    return ev.Opened, {"name": "gpt", "policy": replace(policy, **changes)}


def committed(
    step: int, loss: float | None = None, attempt: int = 1
) -> tuple[type, dict[str, Any]]:
    record = CheckpointRecord(
        step=step,
        attempt=attempt,
        folder=f"s{step}a{attempt}",
        metrics={} if loss is None else {"val_loss": loss},
    )
    return ev.CheckpointCommitted, {"checkpoint": record}


def store(content: str = "abc", num_samples: int = 1000) -> tuple[type, dict[str, Any]]:
    record = StoreRecord(key="k", content_hash=content, num_samples=num_samples)
    return ev.StoreReady, {"store": record}


def placed(workers: int) -> tuple[type, dict[str, Any]]:
    return ev.GangPlaced, {"workers": workers}


def started(step: int = 1) -> tuple[type, dict[str, Any]]:
    return ev.TrainingStarted, {"step": step}


def ended(step: int = 200, stopped: bool = False) -> tuple[type, dict[str, Any]]:
    return ev.TrainingEnded, {"step": step, "stopped": stopped}


def lost(cause: str, message: str = "rank 1 died", **more: Any) -> tuple[type, dict[str, Any]]:
    return ev.TrainingFailed, {"cause": cause, "message": message, **more}


def stop(by: str = "ctrl-c") -> tuple[type, dict[str, Any]]:
    return ev.StopRequested, {"by": by}


DEPLOYED = (ev.Deployed, {"url": URL})
ANSWERED = (ev.ExampleAnswered, {"request": {}, "answer": "ok"})
TORN_DOWN = (ev.TornDown, {})

Rows = list[tuple[tuple[type, dict[str, Any]], str]]

TO_TRAINING: Rows = [
    (opened(), "reserving: ReserveGang(4,2)"),
    (placed(4), "sharding: BuildStore"),
    (store(), "training: StartTraining(4 0)"),
    (started(), "training: -"),
]
TO_STEP_200: Rows = [
    *TO_TRAINING,
    (committed(100, 5.9), "training: -"),
    (committed(200, 5.5), "training: -"),
]


def play(rows: Rows, story: Story | None = None) -> Story:
    """Tell all rows, comparing each with its right side."""
    told = story or Story()
    for number, ((kind, details), expected) in enumerate(rows, start=1):
        found = told.tell(kind, **details)
        note = told.last.note if told.last else ""
        assert found == expected, f"row {number}, {kind.__name__}: {note}"
    return told
