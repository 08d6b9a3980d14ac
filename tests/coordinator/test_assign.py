"""Bundles go to nodes: all or none, groups together, few domains, replicas apart."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator.assign import assign
from orchestrator.coordinator.assignment import Assignment, verify
from orchestrator.coordinator.gang import Gang, gang
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.preflight import fits, smaller_gangs
from orchestrator.coordinator.shortfall import Shortfalls
from orchestrator.plan import Mesh, coordinate_of
from orchestrator.plan.sizes import mesh_for
from tests.coordinator.clusters import check, clusters, meshes, node, plan_of, rack, workers_of

pytestmark = pytest.mark.unit


def placed(*arguments: Any, **more: Any) -> Assignment:
    found = assign(*arguments, **more)
    assert isinstance(found, Assignment), found.render()
    return found


def refused(*arguments: Any, **more: Any) -> str:
    found = assign(*arguments, **more)
    assert isinstance(found, Shortfalls)
    return found.render()


def groups(found: Assignment, kept: tuple[str, ...]) -> list[set[str]]:
    """The nodes of each group of ranks that share these coordinates."""
    assert found.mesh is not None
    seen: dict[tuple[int, ...], set[str]] = {}
    for rank, name in enumerate(found.nodes_by_rank):
        place = coordinate_of(found.mesh, rank)
        seen.setdefault(tuple(place[each] for each in kept), set()).add(name)
    return list(seen.values())


TENSOR = ("pipeline", "replicate", "shard", "context")
PIPELINE = ("replicate", "shard", "context")


@settings(deadline=None)
@given(meshes, clusters(), st.sampled_from([(), ("rack",), ("nvlink", "rack")]))
def test_workers_are_placed_exactly_when_there_is_room_and_groups_stay_whole(
    mesh: Mesh, nodes: list[Node], topology: tuple[str, ...]
) -> None:
    """For workers that are all alike every promise is exact, not a best effort."""
    slots = [int(each.resources["CPU"]) for each in nodes]
    found = assign(workers_of(mesh.size), mesh, nodes, None, topology)
    if sum(slots) < mesh.size:
        assert isinstance(found, Shortfalls)
        assert found.missing
        return
    assert isinstance(found, Assignment)
    check(found, nodes)
    rows, whole = groups(found, TENSOR), groups(found, PIPELINE)
    held = sum(slot // mesh.tensor for slot in slots)
    assert sum(len(row) == 1 for row in rows) >= min(len(rows), held)
    held = sum(slot // (mesh.tensor * mesh.pipeline) for slot in slots)
    assert sum(len(group) == 1 for group in whole) >= min(len(whole), held)
    assert (found.price == ()) == all(len(group) == 1 for group in [*rows, *whole])


@settings(deadline=None)
@given(meshes, clusters(), st.sampled_from([(), ("rack",), ("nvlink", "rack")]))
def test_the_same_question_has_the_same_answer_in_whatever_order_nodes_come(
    mesh: Mesh, nodes: list[Node], topology: tuple[str, ...]
) -> None:
    once = assign(workers_of(mesh.size), mesh, nodes, None, topology)
    assert once == assign(workers_of(mesh.size), mesh, nodes[::-1], None, topology)


@settings(deadline=None)
@given(
    st.integers(1, 12), st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4)
)
def test_workers_touch_as_few_racks_as_possible(count: int, racks: list[list[int]]) -> None:
    nodes = [each for index, cpus in enumerate(racks) for each in rack("abcd"[index], *cpus)]
    found = assign(workers_of(count), Mesh(shard=count), nodes, None, ["rack"])
    sums = [sum(cpus) for cpus in racks]
    fewest = next(
        (
            size
            for size in range(1, len(racks) + 1)
            if any(sum(some) >= count for some in itertools.combinations(sums, size))
        ),
        None,
    )
    if fewest is None:
        assert isinstance(found, Shortfalls)
        return
    assert isinstance(found, Assignment)
    assert dict(found.reach)["rack"] == fewest == len({name[0] for name in found.nodes})


def test_pipelines_stay_in_a_rack_where_no_node_holds_them() -> None:
    mesh = Mesh(tensor=2, pipeline=2, replicate=2)
    nodes = [*rack("a", 2, 2), *rack("b", 2), *rack("c", 2)]
    found = placed(workers_of(8), mesh, nodes, None, ["rack"])
    assert sorted(len({name[0] for name in group}) for group in groups(found, PIPELINE)) == [1, 2]
    assert found.price == (
        "1 of 2 pipelines of 2 stages reaches across nodes of one rack (ranks 0, 4 on a0 and a1): "
        "the activations of each micro-batch cross the network between stages, forward and back",
        "1 of 2 pipelines of 2 stages reaches across racks (ranks 2, 6 on b0 and c0): "
        "the activations of each micro-batch cross the network between stages, forward and back",
    )
    assert found.reach == (("node", 4), ("rack", 3))


def test_a_node_without_the_label_is_a_domain_of_its_own() -> None:
    mesh = Mesh(shard=2)
    found = placed(workers_of(2), mesh, [node("p", 1), node("q", 1), *rack("z", 1, 1)], None,
                   ["rack"])  # fmt: skip
    assert found.nodes == ("z0", "z1")


def test_equal_names_in_two_racks_are_two_domains() -> None:
    nodes = [
        node("a0", 1, {"rack": "a", "nvlink": "1"}),
        node("b0", 1, {"rack": "b", "nvlink": "1"}),
        node("b1", 1, {"rack": "b", "nvlink": "2"}),
    ]
    found = placed(workers_of(2), Mesh(tensor=2), nodes, None, ["nvlink", "rack"])
    assert found.nodes == ("b0", "b1")
    assert "reaches across nvlinks of one rack" in found.price[0]


def test_a_small_gang_leaves_the_large_rooms_alone() -> None:
    nodes = [node("a", 8), node("b", 3), node("c", 2)]
    assert placed(workers_of(2), Mesh(shard=2), nodes).nodes == ("c", "c")
    assert placed(workers_of(3), Mesh(shard=3), nodes).nodes == ("b", "b", "b")
    assert placed(workers_of(10), Mesh(shard=10), nodes).reach == (("node", 2),)


def test_neighbouring_groups_lie_in_one_rack() -> None:
    mesh = Mesh(replicate=2, shard=2, tensor=2)
    found = placed(workers_of(8), mesh, [*rack("a", 2, 2), *rack("b", 2, 2)], None, ["rack"])
    assert found.nodes_by_rank == ("a0", "a0", "a1", "a1", "b0", "b0", "b1", "b1")


def test_what_is_held_by_others_and_excluded_nodes_are_left_alone() -> None:
    nodes = [node("a", 4), node("b", 4), node("c", 4)]
    free = {"a": {"CPU": 1.0}, "b": {"CPU": 4.0}, "c": {"CPU": 4.0}}
    wanted, mesh = workers_of(5), Mesh(shard=5)
    check(placed(wanted, mesh, nodes, free), nodes, free)
    found = placed(wanted, mesh, nodes, free, excluded=["c"])
    assert Counter(found.nodes) == {"b": 4, "a": 1}
    lacking = refused(wanted, mesh, nodes, {**free, "c": {}}, excluded=["b"])
    assert "2 nodes offer 1; short by 4 CPU" in lacking


def test_a_refusal_names_what_is_missing_what_fits_and_who_is_left_out() -> None:
    plan, nodes = plan_of(4), [node("a", 2), node("b", 2), node("c", 1)]
    found = refused(gang(plan, 4), mesh_for(plan, 4), nodes, None, excluded=["b"],
                    smaller=smaller_gangs(plan, 4))  # fmt: skip
    assert found.splitlines() == [
        "needs 4 × {CPU: 1}; 2 nodes offer 3; short by 1 CPU. training.workers=3 fits",
        "left out as suspect, draining or given up: b",
    ]


@pytest.mark.parametrize(
    ("topology", "mesh", "met"),
    [
        ((), Mesh(tensor=2, pipeline=2), False),
        (("rack",), Mesh(tensor=2, pipeline=2), True),
        ((), Mesh(tensor=2, shard=2), True),
        ((), Mesh(shard=4), True),
        (("nvlink", "rack"), Mesh(tensor=2, pipeline=2), False),
    ],
)
def test_strict_refuses_where_a_group_has_no_place_for_itself(
    topology: tuple[str, ...], mesh: Mesh, met: bool
) -> None:
    nodes = rack("a", 2, 2)
    arguments = (workers_of(4), mesh, nodes, None, topology)
    assert isinstance(assign(*arguments), Assignment)
    found = assign(*arguments, "strict")
    assert isinstance(found, Assignment) == met
    if not met:
        assert isinstance(found, Shortfalls)
        near = "one node or one nvlink" if topology else "one node"
        assert found.render() == (
            "coordination.gang.placement is strict, and 1 of 1 tensor·pipeline groups of 4 finds "
            f"no room inside {near}; works: {near} with room for 4 workers for each group, or a "
            "smaller model.tensor, or a smaller model.pipeline, or "
            "coordination.gang.placement=prefer"
        )


def test_replicas_lie_apart_and_data_tasks_beside_the_workers() -> None:
    nodes = [node("a", 4), node("b", 4), node("c", 4)]
    plan = plan_of(4, model={"tensor": 4}, data={"tasks": 6}, inference={"replicas": 2})
    found = placed(gang(plan, 4), mesh_for(plan, 4), nodes)
    check(found, nodes)
    assert found.nodes_by_rank == ("a",) * 4
    plan = plan_of(8, data={"tasks": 10}, inference={"replicas": 2})
    found = placed(gang(plan, 8), mesh_for(plan, 8), nodes)
    check(found, nodes)
    assert found.reach == (("node", 2),)
    assert len({found.nodes[bundle] for bundle in found.gang.inference}) == 2
    alone = placed(gang(plan, 0), None, [*rack("x", 4, 4), *rack("y", 4)], None, ["rack"])
    assert {name[0] for name in alone.nodes} == {"x", "y"}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 6), st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.0, 3.0]),
       st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.0]), clusters())  # fmt: skip
def test_what_surely_fits_is_placed_whatever_shapes_the_bundles_have(
    workers: int, tasks: int, task_cpu: float, replicas: int, replica_cpu: float,
    nodes: list[Node],
) -> None:  # fmt: skip
    plan = plan_of(
        max(1, workers),
        training={"global_batch": 60},
        data={"tasks": tasks, "resources": {"cpu": task_cpu, "label_selector": {"rack": "!x"}}},
        inference={"replicas": replicas, "resources": {"cpu": replica_cpu}},
    )
    wanted = gang(plan, workers, nodes=nodes)
    mesh = mesh_for(plan, workers) if workers else None
    found = assign(wanted, mesh, nodes)
    if isinstance(found, Assignment):
        check(found, nodes)
    else:
        assert not fits(wanted, nodes)
        assert found.missing or found.reasons


def test_a_gang_without_training_is_spread_over_all_that_have_room() -> None:
    wanted = Gang(({"CPU": 1.0},) * 5, inference=(0, 1, 2, 3, 4))
    found = placed(wanted, None, [node("a", 4), node("b", 1), node("c", 3)])
    assert Counter(found.nodes) == {"a": 2, "b": 1, "c": 2}


def test_pins_name_the_node_and_keep_the_labels() -> None:
    wanted = replace(workers_of(1), selectors=({"zone": "in(a,b)"},))
    found = placed(wanted, Mesh(), [node("n", 1, {"zone": "a"}), node("m", 1)])
    assert found.pins() == ({"zone": "in(a,b)", "ray.io/node-id": "n"},)


def test_ranks_follow_the_nodes_that_workers_came_to_lie_on() -> None:
    mesh = Mesh(tensor=2, pipeline=2, replicate=2)
    found = placed(workers_of(8), mesh, [node("a", 4), node("b", 4)])
    came = [*"babababa"]
    ranks = found.ranks_on(came)
    assert verify(found, dict(zip(ranks, came, strict=True))) == ()
    elsewhere = [*"aaaaaaac"]
    assert sorted(found.ranks_on(elsewhere)) == list(range(8))


def test_what_lies_otherwise_is_said_by_name() -> None:
    found = placed(workers_of(4), Mesh(tensor=2, replicate=2), [node("a", 2), node("b", 2)])
    assert found.nodes_by_rank == ("a", "a", "b", "b")
    assert verify(found, {0: "a", 1: "a", 2: "b", 3: "b"}) == ()
    assert verify(found, {0: "a", 1: "c", 3: "b", 7: "d"}) == (
        "rank 1 lies on c, and was to lie on a",
        "rank 2 lies nowhere, and was to lie on b",
        "rank 7 on d is none of the 4 that were placed",
        "the tensor group of ranks 0, 1 now reaches across a, c",
    )


@settings(deadline=None)
@given(meshes, clusters(), st.data())
def test_verify_is_silent_exactly_where_all_lie_as_assigned(
    mesh: Mesh, nodes: list[Node], data: st.DataObject
) -> None:
    found = assign(workers_of(mesh.size), mesh, nodes)
    if isinstance(found, Shortfalls):
        return
    lies = dict(enumerate(found.nodes_by_rank))
    assert verify(found, lies) == ()
    moved = data.draw(st.integers(0, mesh.size - 1))
    assert verify(found, {**lies, moved: "elsewhere"})


def test_a_mesh_of_another_size_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="has 4 ranks, but the gang has 3 workers"):
        assign(workers_of(3), Mesh(tensor=4), [node("a", 4)])
