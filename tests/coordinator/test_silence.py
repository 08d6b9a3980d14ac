from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.silence import judge_silence

pytestmark = pytest.mark.unit

names = st.sampled_from(["a", "b", "c"])


def test_a_silent_node_is_asked_then_suspected_then_given_up() -> None:
    found = judge_silence({"well": 1.0, "late": 3.0, "silent": 6.0, "gone": 10.0}, ["gone"], 5.0)
    assert found.to_probe == ("late", "silent", "gone")
    assert found.suspected == ("silent",)
    assert found.lost == ("gone",)
    assert found.cleared == ()


def test_a_blip_is_over_when_the_node_is_heard_again() -> None:
    found = judge_silence({"a": 0.2}, ["a", "elsewhere"], 5.0)
    assert (found.cleared, found.lost) == (("a",), ())


@given(st.dictionaries(names, st.floats(0, 100)), st.sets(names), st.floats(0.1, 30))
def test_nobody_is_lost_before_being_suspected_nor_cleared_with_reason(
    silent: dict[str, float], suspects: set[str], after: float
) -> None:
    found = judge_silence(silent, suspects, after)
    assert set(found.lost) <= suspects | set(found.suspected)
    assert set(found.lost) <= set(found.to_probe)
    assert not set(found.cleared) & (set(found.suspected) | set(found.lost))
    assert set(found.suspected) & suspects == set()
