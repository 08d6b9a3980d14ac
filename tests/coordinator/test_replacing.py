"""Changing a field at little cost is the same as changing it at full cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState, Wait
from tests.observe.long_run import POLICY, told

pytestmark = pytest.mark.unit

STATES = [state for _, state in told(33, 80)]
FIELDS = [field.name for field in dataclasses.fields(RunState)]


@given(
    st.integers(0, len(STATES) - 1),
    st.integers(0, len(STATES) - 1),
    st.lists(st.sampled_from(FIELDS), unique=True),
)
def test_a_copy_is_that_of_dataclasses_and_the_value_stays_as_it_was(
    which: int, other: int, names: list[str]
) -> None:
    state = STATES[which]
    before = dataclasses.replace(state)
    changes: dict[str, Any] = {name: getattr(STATES[other], name) for name in names}
    copy = replace(state, **changes)
    assert type(copy) is RunState
    assert copy == dataclasses.replace(state, **changes)
    assert repr(copy) == repr(dataclasses.replace(state, **changes))
    assert copy is not state
    assert repr(state) == repr(before)
    assert list(vars(copy)) == FIELDS


def test_a_name_that_is_no_field_is_refused() -> None:
    wrong: dict[str, Any] = {"until": 3, "what": "x"}
    with pytest.raises(TypeError, match="Wait has no field until"):
        replace(Wait(what="it", timeout_seconds=1.0, since=1), **wrong)


def test_what_a_class_checks_is_checked_of_the_copy() -> None:
    assert replace(POLICY, keep=3).keep == 3
    with pytest.raises(ValueError, match="must be at least 1"):
        replace(POLICY, keep=0)
    assert isinstance(replace(POLICY), RunPolicy)


def test_a_copy_stays_frozen() -> None:
    copy = replace(STATES[-1], step=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.step = 8  # type: ignore[misc]


def test_every_frozen_value_of_the_state_can_be_copied() -> None:
    """None of them keeps its fields elsewhere than in ``__dict__``, or computes fields."""
    for state in STATES:
        for field in dataclasses.fields(state):
            value = getattr(state, field.name)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                assert all(each.init for each in dataclasses.fields(value))
                assert repr(replace(value)) == repr(value)
