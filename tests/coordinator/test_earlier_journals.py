"""Journals that were written before there were these fields: they read, and decide as they did."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide, replay
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.state import RunState
from tests.coordinator.random_runs import opened
from tests.coordinator.story import TO_TRAINING, Story, committed, lost, placed, started
from tests.coordinator.story import opened as opening

pytestmark = pytest.mark.unit

POLICY_FIELDS = {
    "steps", "workers", "restarts", "keep", "keep_best", "gang_timeout_seconds",
    "start_timeout_seconds", "stop_timeout_seconds", "progress_timeout_seconds",
    "hang_timeout_seconds", "serve_timeout_seconds", "promotion", "replicas", "has_example",
    "keep_serving", "release_before_deploy", "strategy",
}  # fmt: skip
"""What the policy of the first journals held."""

EVENT_FIELDS: dict[type[ev.BaseEvent], set[str]] = {
    ev.GangTimedOut: {"message"},
    ev.Progressed: {"done", "total"},
    ev.CheckpointCommitted: {"checkpoint"},
    ev.TrainingFailed: {"cause", "message", "user_traceback", "rank", "pid", "node"},
    ev.DeployFailed: {"message", "user_traceback"},
}
"""What events held then that hold more now."""


def as_it_was(event: ev.Event) -> bytes:
    """The event as its first version was written."""
    told: dict[str, Any] = json.loads(ev.to_json(event))
    known = EVENT_FIELDS.get(type(event))
    if known is not None:
        told = {k: v for k, v in told.items() if k in known | {"kind", "attempt", "at_seconds"}}
    if "policy" in told:
        told["policy"] = {k: v for k, v in told["policy"].items() if k in POLICY_FIELDS}
    return json.dumps(told).encode()


def test_a_run_with_losses_replays_to_where_it_stood() -> None:
    story, lines = Story(), list[bytes]()
    rows = [
        opening(restarts={"oom": 1, "node": 1}),
        *[row for row, _ in TO_TRAINING[1:]],
        (ev.Progressed, {"done": 40}),
        committed(100, 5.9),
        lost("oom"),
        placed(2),
        started(101),
        lost("node"),
        placed(4),
        started(101),
        committed(150, 5.7, attempt=3),
    ]
    for kind, details in rows:
        story.clock += 1
        attempt = story.state.attempt + (kind is ev.Opened)
        event = kind(attempt=attempt, at_seconds=story.clock, **details)
        decision = decide(story.state, event)  # type: ignore[arg-type]
        assert decision.accepted, decision.note
        story.state = decision.state
        lines.append(as_it_was(event))  # type: ignore[arg-type]
    again = replay(ev.from_json(line) for line in lines)
    assert again == story.state
    assert (again.attempt, again.committed_step, again.micro_batch) == (3, 150, None)


def test_new_fields_all_have_defaults() -> None:
    names = {field.name for field in dataclasses.fields(RunPolicy)}
    assert names > POLICY_FIELDS
    for field in dataclasses.fields(RunState):
        assert field.default is not dataclasses.MISSING or (
            field.default_factory is not dataclasses.MISSING
        ), field.name


def test_a_policy_survives_json_with_its_micro_batches() -> None:
    for seed in range(50):
        event = opened(random.Random(seed), RunState(), 1.0)
        assert ev.from_json(ev.to_json(event)) == event
