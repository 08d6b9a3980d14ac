"""Ranks of workers that lie on nodes: what talks most shares one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.seating import seat
from orchestrator.plan import Mesh, coordinate_of

pytestmark = pytest.mark.unit

degree = st.integers(1, 3)
meshes = st.builds(Mesh, replicate=degree, shard=degree, tensor=degree, pipeline=degree,
                   context=st.integers(1, 2))  # fmt: skip


def groups_on(mesh: Mesh, nodes: list[str], kept: tuple[str, ...]) -> Counter[int]:
    """How many groups of equal coordinates lie on how many nodes."""
    ranks = seat(mesh, nodes)
    seen: dict[tuple[int, ...], set[str]] = {}
    for rank, node in zip(ranks, nodes, strict=True):
        place = coordinate_of(mesh, rank)
        seen.setdefault(tuple(place[name] for name in kept), set()).add(node)
    return Counter(len(found) for found in seen.values())


@given(meshes, st.data())
def test_every_worker_has_a_rank_and_as_many_groups_as_possible_stay_whole(
    mesh: Mesh, data: st.DataObject
) -> None:
    names = st.sampled_from(["a", "b", "c"])
    nodes = data.draw(st.lists(names, min_size=mesh.size, max_size=mesh.size))
    assert sorted(seat(mesh, nodes)) == list(range(mesh.size))
    assert seat(mesh, nodes) == seat(mesh, nodes)
    size = mesh.tensor * mesh.pipeline
    room = sum(count // size for count in Counter(nodes).values())
    found = groups_on(mesh, nodes, ("replicate", "shard", "context"))
    assert found[1] >= min(room, mesh.size // size)
    if room == mesh.size // size:
        assert set(found) == {1}


@given(meshes)
def test_on_one_node_each_group_has_neighbouring_workers(mesh: Mesh) -> None:
    ranks = seat(mesh, ["a"] * mesh.size)
    assert ranks[0] == 0
    size = mesh.tensor * mesh.pipeline
    for start in range(0, mesh.size, size):
        places = [coordinate_of(mesh, rank) for rank in ranks[start : start + size]]
        assert len({(p["replicate"], p["shard"], p["context"]) for p in places}) == 1


def test_stages_that_are_numbered_far_apart_share_a_node() -> None:
    mesh = Mesh(replicate=2, pipeline=2, tensor=2)
    assert seat(mesh, [*"aaaabbbb"]) == (0, 1, 4, 5, 2, 3, 6, 7)


def test_where_no_node_holds_a_group_tensor_ranks_stay_together() -> None:
    mesh = Mesh(pipeline=3, tensor=2)
    nodes = [*"aaabbb"]
    assert seat(mesh, nodes) == (0, 1, 4, 2, 3, 5)
    assert groups_on(mesh, nodes, ("pipeline",)) == {1: 2, 2: 1}


def test_without_groups_ranks_follow_the_nodes() -> None:
    assert seat(Mesh(replicate=2, shard=2), [*"aabb"]) == (0, 1, 2, 3)
    assert seat(Mesh(replicate=2, shard=2), [*"abab"]) == (0, 2, 1, 3)


def test_the_number_of_workers_must_be_that_of_the_mesh() -> None:
    with pytest.raises(ValueError, match="has 4 ranks, but there are 3 workers"):
        seat(Mesh(tensor=4), [*"aaa"])
