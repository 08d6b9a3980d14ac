"""What may be deleted, and what never: newest, best, and what a resume or a replica needs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.actions import DeleteCheckpoints
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.policy import policy_of
from orchestrator.coordinator.retention import best_of, ranked, superseded
from orchestrator.coordinator.state import CheckpointRecord, RunState
from orchestrator.plan.load import parse_plan

pytestmark = pytest.mark.unit

Mode = Literal["min", "max"]


def record(step: int, **metrics: float) -> CheckpointRecord:
    return CheckpointRecord(step=step, attempt=1, folder=f"s{step}", metrics=metrics)


FIGURES = st.one_of(st.none(), st.floats(allow_nan=True), st.integers(0, 3).map(float))
RECORDS = st.dictionaries(st.integers(1, 100), FIGURES, max_size=12).map(
    lambda found: tuple(
        record(step) if value is None else record(step, a=value)
        for step, value in sorted(found.items())
    )
)
MODES = st.sampled_from(["min", "max"])
PROTECTED = st.sets(st.integers(1, 100)).map(lambda steps: frozenset(f"s{n}" for n in steps))


@given(RECORDS, st.integers(1, 5), st.integers(1, 5), MODES, PROTECTED)
def test_newest_best_and_protected_stay_and_nothing_else(
    records: tuple[CheckpointRecord, ...],
    keep: int,
    keep_best: int,
    mode: Mode,
    protected: frozenset[str],
) -> None:
    gone = superseded(records, keep, "a", mode, protected, keep_best)
    newest = {each.folder for each in records[-keep:]}
    best = {each.folder for each in ranked(records, "a", mode)[:keep_best]}
    assert set(gone) == {each.folder for each in records} - newest - best - protected
    assert list(gone) == [each.folder for each in records if each.folder in gone]


@given(RECORDS, st.integers(1, 5), st.integers(1, 5), MODES)
def test_deleting_changes_neither_the_resume_nor_the_promotion(
    records: tuple[CheckpointRecord, ...], keep: int, keep_best: int, mode: Mode
) -> None:
    gone = superseded(records, keep, "a", mode, frozenset(), keep_best)
    left = tuple(each for each in records if each.folder not in gone)
    assert left[-1:] == records[-1:]
    assert best_of(left, "a", mode) == best_of(records, "a", mode)
    assert ranked(left, "a", mode)[:keep_best] == ranked(records, "a", mode)[:keep_best]
    assert superseded(left, keep, "a", mode, frozenset(), keep_best) == ()


@given(RECORDS, MODES)
def test_the_ranking_is_by_figure_and_then_by_step(
    records: tuple[CheckpointRecord, ...], mode: Mode
) -> None:
    order = ranked(records, "a", mode)
    assert {r.folder for r in order} == {
        r.folder for r in records if math.isfinite(r.metrics.get("a", math.nan))
    }
    for better, worse in pairwise(order):
        a, b = better.metrics["a"], worse.metrics["a"]
        assert a <= b if mode == "min" else a >= b
        assert a != b or better.step > worse.step


PLAN = """
name: x
job: a:B
data: {source: {kind: jsonl, path: .}}
training: {steps: 100}
coordination: {checkpoint: {every: 10, keep: 1, keep_best: 2}}
"""


def test_a_plan_without_inference_keeps_the_best_by_loss() -> None:
    policy = policy_of(parse_plan(PLAN).plan, workers=[1])
    assert (policy.keep, policy.keep_best) == (1, 2)
    state, deleted = RunState(), []
    opened = ev.Opened(attempt=1, at_seconds=0.0, name="x", policy=policy, plan_hash="h", holder="")
    state = replace(decide(state, opened).state, phase="training", started=True, busy="workers")
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0), (40, 5.0), (50, 0.5)):
        commit = ev.CheckpointCommitted(
            attempt=1, at_seconds=0.0, checkpoint=record(step, val_loss=loss)
        )
        decision = decide(state, commit)
        assert decision.accepted, decision.note
        state = decision.state
        for action in decision.actions:
            assert isinstance(action, DeleteCheckpoints)
            deleted += action.folders
    assert [each.step for each in state.committed] == [20, 50]
    assert deleted == ["s10", "s30", "s40"]
