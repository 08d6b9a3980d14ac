from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.needs import need_of
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.vacancy import vacancy

pytestmark = pytest.mark.unit

A, B = Node("a", {"CPU": 4.0, "GPU": 2.0}), Node("b", {"CPU": 8.0})
ONE = need_of({"CPU": 1.0}).shape


def test_what_ray_has_not_noticed_yet_is_taken_all_the_same() -> None:
    free = vacancy([A, B], {"a": {"CPU": 4.0, "GPU": 2.0}, "b": {"CPU": 8.0}}, [("a", ONE)] * 3)
    assert free == {"a": {"CPU": 1.0, "GPU": 2.0}, "b": {"CPU": 8.0}}


def test_what_others_hold_is_known_from_ray_alone() -> None:
    free = vacancy([A], {"a": {"CPU": 1.5, "GPU": 0.0}}, [("a", ONE)])
    assert free == {"a": {"CPU": 1.5, "GPU": 0.0}}


def test_a_node_that_is_not_reported_yet_has_nothing_and_one_that_is_gone_is_left_out() -> None:
    gone = Node("c", {"CPU": 1.0}, alive=False)
    free = vacancy([A, gone], {}, [("c", ONE), ("elsewhere", ONE)])
    assert free == {"a": {"CPU": 0.0, "GPU": 0.0}}


def test_what_was_given_back_a_moment_ago_is_free_whatever_ray_says() -> None:
    reported = {"a": {"CPU": 1.0, "GPU": 2.0}, "b": {}}
    free = vacancy([A, B], reported, [], [("a", ONE), ("b", ONE), ("gone", ONE)])
    assert free == {"a": {"CPU": 2.0, "GPU": 2.0}, "b": {"CPU": 1.0}}
    # and never more than there is, should Ray have noticed after all
    assert vacancy([A], {"a": {"CPU": 4.0, "GPU": 2.0}}, [], [("a", ONE)])["a"]["CPU"] == 4.0


@given(
    st.lists(st.sampled_from(["a", "b"]), max_size=20),
    st.floats(0, 10),
    st.floats(0, 10),
)
def test_it_is_never_more_than_either_says_nor_less_than_nothing(
    held: list[str], a: float, b: float
) -> None:
    free = vacancy([A, B], {"a": {"CPU": a}, "b": {"CPU": b}}, [(name, ONE) for name in held])
    for node, reported in ((A, a), (B, b)):
        left = node.resources["CPU"] - held.count(node.id)
        assert free[node.id]["CPU"] == pytest.approx(max(0.0, min(left, reported)))
