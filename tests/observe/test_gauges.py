"""What Prometheus gets, and whether the dashboard that ships shows it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.coordinator.state import RunState
from orchestrator.observe.gauges import GAUGES, RUN, readings
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.metrics_log import last_step
from orchestrator.storage import Storage
from tests.axis_command import ROOT
from tests.observe.past_run import whole_run

pytestmark = pytest.mark.unit

DASHBOARD = ROOT / "deploy" / "grafana" / "axis-runs.json"


@pytest.fixture
def state_and_step(tmp_path) -> tuple[RunState, dict]:  # type: ignore[no-untyped-def, type-arg]
    base = Storage.open(str(tmp_path))
    whole_run(base, "little")
    run = base.child("little")
    state, step = replay_state(Journal(run)), last_step(run) or {}
    dated = tuple(replace(each, at_seconds=state.updated_at_seconds) for each in state.committed)
    return replace(state, committed=dated), {**step, "lr": 1e-3, "grad_norm": 1.0}


def test_a_run_reads_every_gauge_once(state_and_step: tuple[RunState, dict]) -> None:  # type: ignore[type-arg]
    state, step = state_and_step
    found = list(readings(state, step, state.updated_at_seconds + 5.0))
    known = {gauge.name: gauge for gauge in GAUGES}
    assert {each.name for each in found} == set(known)
    assert all(set(each.labels) == set(known[each.name].labels) for each in found)
    series = Counter((each.name, *sorted(each.labels.items())) for each in found)
    assert set(series.values()) == {1}
    assert len(series) < 60, "a run must not make many series"
    values = {each.name: each.value for each in found if not each.labels}
    assert values["axis_committed_step"] == state.committed_step
    assert values["axis_step"] >= state.committed_step
    assert values["axis_checkpoint_age_seconds"] >= 0
    phases = [each.labels["phase"] for each in found if each.name == "axis_phase" and each.value]
    assert phases == [state.phase]


def test_a_run_that_has_not_begun_reads_too() -> None:
    assert {each.name for each in readings(RunState(), None, 0.0)} <= {g.name for g in GAUGES}


def test_names_are_what_prometheus_takes() -> None:
    assert all(re.fullmatch(r"axis_[a-z_]+", gauge.name) for gauge in GAUGES)
    assert not any(gauge.name.endswith("_total") for gauge in GAUGES), "those are counters"


def test_the_dashboard_shows_every_gauge_and_nothing_else() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    variables = [each["query"] for each in dashboard["templating"]["list"]]
    used = set(re.findall(r"ray_(axis_\w+)", " ".join(expressions)))
    assert used == {gauge.name for gauge in GAUGES}
    labels = set(re.findall(r"by \(([^)]*)\)", " ".join(expressions)))
    known = {label for gauge in GAUGES for label in (RUN, *gauge.labels)}
    assert {each.strip() for text in labels for each in text.split(",")} <= known
    assert any("label_values(ray_axis_attempt, run)" in str(each) for each in variables)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
