"""Which figures of a run does a monitoring system get, under which names?

Pure: from a run's state to readings. Every figure has the run's name as a label, and nothing that
grows with its length or its workers: a thousand runs make some ten thousand series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from orchestrator.coordinator.ledger import PARTS
from orchestrator.coordinator.policy import Cause
from orchestrator.coordinator.state import Phase, RunState

RUN = "run"


@dataclass(frozen=True)
class Gauge:
    """A figure: its name, what it is, and its labels beside the run's name."""

    name: str
    what: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """The value of a gauge at one moment."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


GAUGES = (
    Gauge("axis_phase", "1 for the phase that the run is in, 0 for the others.", ("phase",)),
    Gauge("axis_attempt", "The present incarnation of the run, counted from 1."),
    Gauge("axis_workers", "Training workers that are reserved."),
    Gauge("axis_step", "Optimizer steps taken."),
    Gauge("axis_steps", "Optimizer steps that the plan asks for."),
    Gauge("axis_committed_step", "Optimizer steps that no fault can take back."),
    Gauge("axis_loss", "Training loss of the last step, a mean over the global batch."),
    Gauge("axis_grad_norm", "Norm of the gradient of the last step, before it was clipped."),
    Gauge("axis_learning_rate", "Learning rate of the last step."),
    Gauge("axis_step_seconds", "What the last step took."),
    Gauge("axis_data_seconds", "What of it was spent waiting for samples."),
    Gauge("axis_evaluation", "The last evaluation, by metric.", ("metric",)),
    Gauge("axis_checkpoints", "Committed checkpoints that are kept."),
    Gauge("axis_checkpoint_age_seconds", "Time since the last checkpoint was committed."),
    Gauge("axis_restarts", "Restarts since the run was opened, by cause.", ("cause",)),
    Gauge("axis_failures", "Losses of workers or driver, over the whole run."),
    Gauge("axis_queue_position", "Place among the runs that wait for room; 0 when it has it."),
    Gauge("axis_time_seconds", "Wall time over all attempts, by what it was spent on.", ("part",)),
    Gauge("axis_goodput_ratio", "Share of the wall time that went into steps that count."),
    Gauge("axis_worker_seconds", "Time that workers were reserved, times their number."),
)


def readings(
    state: RunState, last_step: Mapping[str, Any] | None, now_seconds: float
) -> Iterator[Reading]:
    """Every figure that is known; ``last_step`` is the newest record of a step, and
    ``now_seconds`` the wall clock by which the state's events are dated."""
    for phase in get_args(Phase):
        yield Reading("axis_phase", float(state.phase == phase), {"phase": phase})
    yield Reading("axis_attempt", state.attempt)
    yield Reading("axis_workers", state.workers)
    taken = int((last_step or {}).get("step", 0))
    yield Reading("axis_step", max(state.committed_step, taken))
    yield Reading("axis_steps", state.steps)
    yield Reading("axis_committed_step", state.committed_step)
    yield from _of_step(last_step or {})
    yield from _of_checkpoints(state, now_seconds)
    for cause in get_args(Cause):
        yield Reading("axis_restarts", state.restarts_used.get(cause, 0), {"cause": cause})
    yield Reading("axis_failures", state.num_failures)
    yield Reading("axis_queue_position", state.queue.position if state.queue else 0)
    for part in PARTS:
        yield Reading("axis_time_seconds", state.ledger.seconds(part), {"part": part})
    if state.ledger.goodput is not None:
        yield Reading("axis_goodput_ratio", state.ledger.goodput)
    yield Reading("axis_worker_seconds", state.ledger.worker_seconds)


def _of_step(record: Mapping[str, Any]) -> Iterator[Reading]:
    fields = {
        "loss": "axis_loss",
        "grad_norm": "axis_grad_norm",
        "lr": "axis_learning_rate",
        "step_seconds": "axis_step_seconds",
        "data_seconds": "axis_data_seconds",
    }
    for key, name in fields.items():
        value = record.get(key)
        if isinstance(value, (int, float)):
            yield Reading(name, float(value))


def _of_checkpoints(state: RunState, now_seconds: float) -> Iterator[Reading]:
    yield Reading("axis_checkpoints", len(state.committed))
    newest = state.newest
    if newest is None:
        return
    if newest.at_seconds:
        age_seconds = max(0.0, now_seconds - newest.at_seconds)
        yield Reading("axis_checkpoint_age_seconds", age_seconds)
    for metric, value in newest.metrics.items():
        yield Reading("axis_evaluation", value, {"metric": metric})
