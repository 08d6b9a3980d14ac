"""What is left on nodes while a decision is made, and how units go onto a tree of them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator.needs import capacity, need_of
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.packing import choose, nest, spread
from orchestrator.coordinator.rooms import Rooms
from orchestrator.coordinator.topology import tree_of
from tests.coordinator.clusters import clusters

pytestmark = pytest.mark.unit

NEEDS = [
    need_of({"CPU": 1.0}),
    need_of({"CPU": 0.1}),
    need_of({"CPU": 2.0, "GPU": 1.0}),
    need_of({"CPU": 0.5}, {"rack": "!x"}),
]
moves = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(NEEDS), st.integers(-2, 3), st.booleans())
)


@settings(deadline=None)
@given(clusters(), moves)
def test_what_is_known_of_a_node_follows_what_is_taken(
    nodes: list[Node], taken: list[tuple[int, object, int, bool]]
) -> None:
    rooms = Rooms(nodes)
    original = rooms.copy()
    before = {need: list(rooms.capacity(need)) for need in NEEDS}
    for index, need, count, ask in taken:
        rooms.take(index % len(nodes), need.shape, count)  # type: ignore[attr-defined]
        for asked in NEEDS if ask else ():
            fresh = [
                capacity(asked.shape, rooms.amounts(i)) * rooms.selected(asked.selector)[i]
                for i in range(len(nodes))
            ]
            assert list(rooms.capacity(asked)) == fresh
    assert {need: list(original.capacity(need)) for need in NEEDS} == before


def test_taking_and_giving_back_is_exact() -> None:
    rooms = Rooms([Node("a", {"CPU": 1.0})])
    tenth = need_of({"CPU": 0.1})
    for _ in range(10):
        rooms.take(0, tenth.shape)
    assert rooms.capacity(need_of({"CPU": 0.0001})) == [0]
    rooms.take(0, tenth.shape, -10)
    assert rooms.capacity(need_of({"CPU": 1.0})) == [1]


@settings(deadline=None)
@given(clusters(), st.integers(0, 8), st.booleans())
def test_what_is_set_aside_is_what_there_is_of_it(
    nodes: list[Node], wanted: int, ask_before: bool
) -> None:
    rooms, one = Rooms(nodes), need_of({"CPU": 1.0})
    before = list(rooms.capacity(one))
    fits = rooms.hold([("n0", one.shape)] * wanted)
    assert fits == (wanted <= before[0])
    rooms.set_aside([("n0", one.shape)] * wanted + [("gone", one.shape)])
    assert list(rooms.capacity(one)) == [max(0, before[0] - wanted), *before[1:]]


def test_excluded_and_dead_nodes_are_not_there() -> None:
    nodes = [Node("b", {"CPU": 1.0}), Node("a", {"CPU": 2.0}), Node("c", {"CPU": 4.0}, alive=False)]
    one = need_of({"CPU": 1.0})
    assert list(Rooms(nodes).capacity(one)) == [2, 1]
    assert list(Rooms(nodes, {"a": {"CPU": 1.0}}).capacity(one)) == [1, 0]
    assert Rooms(nodes, excluded=["a"]).names == ("b",)
    assert list(Rooms(nodes).without(["a"]).capacity(one)) == [0, 1]
    assert list(Rooms(nodes).only([0]).capacity(one)) == [2, 0]


TOPOLOGIES = st.sampled_from([(), ("rack",), ("nvlink", "rack")])


@settings(deadline=None)
@given(clusters(), TOPOLOGIES)
def test_the_tree_is_nested_and_its_sums_are_sums(
    nodes: list[Node], topology: tuple[str, ...]
) -> None:
    tree = tree_of(nodes, topology)
    amounts = [int(node.resources["CPU"]) for node in nodes]
    sums = tree.sums(amounts, 0)
    assert sums[tree.height] == [sum(amounts)]
    for level in range(1, tree.height + 1):
        for domain, inside in enumerate(tree.below[level]):
            assert sums[level][domain] == sum(sums[level - 1][each] for each in inside)
            assert all(tree.above[level - 1][each] == domain for each in inside)
        assert tree.sums(sums[level], level) == sums[level:]
    assert sorted(tree.order) == list(range(len(nodes)))
    for one, other in itertools.combinations(range(len(nodes)), 2):
        labels = [[nodes[i].labels.get(key) for key in topology] for i in (one, other)]
        if labels[0] == labels[1] and topology and labels[0][0] is not None:
            assert tree.level_of([one, other]) == 1


@settings(deadline=None)
@given(clusters(), TOPOLOGIES, st.integers(1, 3), st.data())
def test_members_take_only_what_there_is_and_the_nearest_first(
    nodes: list[Node], topology: tuple[str, ...], parts: int, data: st.DataObject
) -> None:
    tree = tree_of(nodes, topology)
    room = [int(node.resources["CPU"]) for node in nodes]
    count = data.draw(st.integers(0, 12))
    left_room = room.copy()
    placed, left = nest(tree, left_room, parts, count)
    used = Counter(node for member in placed for node in member)
    assert [before - used[node] for node, before in enumerate(room)] == left_room
    assert min(left_room) >= 0
    assert len(placed) + left == count
    assert len(placed) == min(count, sum(room) // parts)
    for level in range(tree.height):
        most = sum(units // parts for units in tree.sums(room, 0)[level])
        assert sum(tree.level_of(member) <= level for member in placed) >= min(count, most)


@settings(deadline=None)
@given(clusters(), TOPOLOGIES, st.data())
def test_a_choice_is_complete(
    nodes: list[Node], topology: tuple[str, ...], data: st.DataObject
) -> None:
    tree = tree_of(nodes, topology)
    room = [int(node.resources["CPU"]) for node in nodes]
    count = data.draw(st.integers(0, sum(room)))
    found = dict(choose(tree, 0, room, count))
    assert sum(found.values()) == count
    assert all(0 < share <= room[node] for node, share in found.items())


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 20))
def test_what_is_spread_is_as_even_as_room_allows(room: list[int], count: int) -> None:
    found = spread([range(len(room))], room, count)
    if count > sum(room):
        assert found is None
        return
    assert found is not None
    shares = dict(found)
    assert sum(shares.values()) == count
    most = max(shares.values(), default=0)
    assert all(shares.get(node, 0) >= min(units, most - 1) for node, units in enumerate(room))
