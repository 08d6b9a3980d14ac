"""Runs told in files, ``scenarios/*.yaml``: events in, actions out; with what must always hold
(``invariants``) checked after every event.

A file is ``about`` one thing, may change the ``policy`` of ``story.PLAN``, and lists ``events``:
the kind to ``tell``, its fields (``with``), how long ``after`` the last event it comes (1 s), what
follows (``then``, in the words of ``story``), and values of the state afterwards (``state``, by
dotted path). ``to: training`` stands for the events that lead to four workers on nodes a and b.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import Decision
from orchestrator.coordinator.ledger import Ledger
from tests.coordinator import story
from tests.coordinator.invariants import Run

pytestmark = pytest.mark.unit

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))
KINDS = {kind.__dataclass_fields__["kind"].default: kind for kind in ev.EVENT_TYPES}
TO_TRAINING = [
    {"tell": "opened"},
    {"tell": "gang-placed", "with": {"workers": 4, "nodes": ["a", "b"]}},
    {"tell": "store-ready"},
    {"tell": "training-started", "with": {"step": 1}},
]


def fields_of(run: Run, kind: str, told: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    """The event's fields; what every scenario would have to repeat is filled in."""
    if kind == "opened":
        told = dict(told)
        changed = replace(story.PLAN, **policy, **told.pop("policy", {}))
        return {
            "name": "gpt",
            "policy": json.loads(json.dumps(changed.__dict__, default=vars)),
            **told,
        }
    if kind == "store-ready":
        return {"store": {"key": "k", "content_hash": "abc", "num_samples": 1000}, **told}
    if kind == "expired" and run.state.wait:
        return {"what": run.state.wait.what, "since": run.state.wait.since, **told}
    if kind == "checkpoint-committed":
        told = dict(told)
        step, loss = told.pop("step"), told.pop("loss", None)
        attempt = told.get("attempt", run.state.attempt)
        metrics = {} if loss is None else {"val_loss": loss}
        folder = f"s{step}a{attempt}"
        record = {"step": step, "attempt": attempt, "folder": folder, "metrics": metrics}
        return {"checkpoint": record, **told}
    return told


def event_of(run: Run, row: dict[str, Any], policy: dict[str, Any]) -> ev.Event:
    kind = row["tell"]
    assert kind in KINDS, f"no event is called {kind}"
    stamp = {"attempt": run.state.attempt + (kind == "opened"), "at_seconds": run.clock}
    fields = {**stamp, **fields_of(run, kind, row.get("with", {}), policy)}
    return ev.from_json(json.dumps({"kind": kind, **fields}))


def shown(decision: Decision) -> str:
    if not decision.accepted:
        return f"! {decision.verdict}"
    names = ", ".join(story.show(action) for action in decision.actions) or "-"
    return f"{decision.state.phase}: {names}"


def value_at(run: Run, path: str) -> Any:
    value: Any = run.state
    for name in path.split("."):
        if isinstance(value, Ledger) and not hasattr(value, name):
            name = f"{name}_seconds"
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    told = yaml.safe_load(path.read_text())
    assert set(told) <= {"about", "policy", "events"}
    run = Run()
    run.clock = 1000.0
    rows = [each for row in told["events"] for each in (TO_TRAINING if "to" in row else [row])]
    for number, row in enumerate(rows, start=1):
        assert set(row) <= {"tell", "with", "after", "then", "state"}, f"row {number}: {row}"
        run.clock += row.get("after", 1.0)
        decision = run.tell(event_of(run, row, told.get("policy", {})))
        place = f"{path.name}, event {number} ({row['tell']}): {decision.note}"
        assert decision.accepted or "then" in row, place
        if "then" in row:
            assert shown(decision) == row["then"], place
        for name, expected in row.get("state", {}).items():
            assert value_at(run, name) == pytest.approx(expected), f"{place}; {name}"
    run.check_replay()


def test_there_are_scenarios_and_each_says_what_it_is_about() -> None:
    assert len(FILES) >= 20
    for path in FILES:
        assert len(yaml.safe_load(path.read_text())["about"]) > 20, path.name


def test_every_kind_of_event_is_in_some_scenario() -> None:
    rows = [row for path in FILES for row in yaml.safe_load(path.read_text())["events"]]
    assert {row["tell"] for row in [*rows, *TO_TRAINING] if "tell" in row} >= set(KINDS)
