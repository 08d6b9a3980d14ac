"""When a checkpoint is taken, and which may go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.retention import best_of, superseded
from orchestrator.coordinator.state import CheckpointRecord
from orchestrator.plan.cadence import checkpoint_steps, is_checkpoint_step

pytestmark = pytest.mark.unit


def record(step: int, **metrics: float) -> CheckpointRecord:
    return CheckpointRecord(step=step, attempt=1, folder=f"s{step}", metrics=metrics)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (100, 30, (30, 60, 90, 100)),
        (100, 50, (50, 100)),
        (100, 1000, (100,)),
    ],
)
def test_steps_that_a_checkpoint_follows(steps: int, every: int, expected: tuple[int, ...]) -> None:
    assert checkpoint_steps(steps, every) == expected


@given(st.integers(1, 500), st.integers(1, 300))
def test_the_last_step_always_has_one(steps: int, every: int) -> None:
    found = checkpoint_steps(steps, every)
    assert found[-1] == steps
    assert list(found) == sorted(set(found))
    assert [s for s in range(steps + 2) if is_checkpoint_step(s, steps, every)] == list(found)


def test_the_best_is_finite_and_of_equals_the_later() -> None:
    records = [record(1, a=2.0), record(2, a=1.0), record(3, a=1.0), record(4, a=math.nan)]
    best = best_of(records, "a", "min")
    assert best is not None
    assert best.step == 3
    assert best_of(records, "a", "max") == records[0]
    assert best_of(records, "b", "min") is None
    assert best_of([record(4, a=math.nan), record(5, a=math.inf)], "a", "max") is None


RECORDS = st.lists(st.integers(1, 100), unique=True, max_size=12).flatmap(
    lambda steps: st.tuples(
        *(
            st.one_of(
                st.builds(record, st.just(step)),
                st.builds(record, st.just(step), a=st.floats(allow_nan=True)),
            )
            for step in sorted(steps)
        )
    )
)


@given(RECORDS, st.integers(1, 5), st.sampled_from(["min", "max"]), st.sets(st.integers(1, 100)))
def test_what_may_go_is_everything_but_newest_best_and_protected(
    records: tuple[CheckpointRecord, ...], keep: int, mode: str, protected: set[int]
) -> None:
    shielded = frozenset(f"s{step}" for step in protected)
    gone = superseded(records, keep, "a", mode, shielded)  # type: ignore[arg-type]
    newest = {each.folder for each in records[-keep:]}
    best = best_of(records, "a", mode)  # type: ignore[arg-type]
    kept = newest | shielded | ({best.folder} if best else set())
    assert set(gone) == {each.folder for each in records} - kept
    left = [each for each in records if each.folder not in gone]
    assert superseded(left, keep, "a", mode, shielded) == ()  # type: ignore[arg-type]
    if best:  # retention never changes what would be promoted
        assert best_of(left, "a", mode) == best  # type: ignore[arg-type]
