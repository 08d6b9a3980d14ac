"""Bundles of a plan, and whether nodes can hold them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator.placement import (
    Gang,
    Node,
    choose_gang,
    gang,
    largest_fit,
    preflight,
)
from orchestrator.coordinator.preflight import fits, smaller_gangs
from orchestrator.errors import InfeasibleError
from orchestrator.plan.plan import Plan

pytestmark = pytest.mark.unit


def plan_of(
    workers: Any = 2,
    cpu: float = 1,
    tasks: int = 2,
    task_cpu: float = 0.5,
    replicas: Any = None,
    **more: Any,
) -> Plan:
    inference = {} if replicas is None else {"inference": {"replicas": replicas}}
    training = {"workers": workers, "resources": {"cpu": cpu, **more}, "global_batch": 24}
    return Plan.model_validate(
        {
            "name": "p",
            "job": "a:B",
            "data": {
                "source": {"kind": "text", "path": "x"},
                "tasks": tasks,
                "resources": {"cpu": task_cpu},
            },
            "training": training,
            **inference,
        }
    )


def nodes_of(*cpus: float, **more: float) -> list[Node]:
    return [Node(f"n{index}", {"CPU": cpu, **more}) for index, cpu in enumerate(cpus)]


def cpus(found: Gang) -> list[float]:
    return [bundle["CPU"] for bundle in found.bundles]


def test_axes_take_turns_in_the_same_bundles() -> None:
    found = gang(plan_of(workers=2, cpu=1, tasks=2, task_cpu=2, replicas=1), 2)
    assert cpus(found) == [2.0, 2.0]
    assert (found.training, found.data, found.inference) == ((0, 1), (0, 1), (0,))


def test_tasks_of_half_a_cpu_share_the_bundle_of_one_worker() -> None:
    found = gang(plan_of(workers=1, tasks=2, task_cpu=0.5), 1)
    assert (cpus(found), found.data) == ([1.0], (0, 0))


def test_what_fits_nowhere_gets_a_bundle_of_its_own() -> None:
    found = gang(plan_of(workers=1, tasks=3, task_cpu=1, replicas=2), 1)
    assert (cpus(found), found.data, found.inference) == ([1.0, 1.0, 1.0], (0, 1, 2), (0, 1))


def test_a_trained_run_needs_bundles_for_replicas_alone() -> None:
    found = gang(plan_of(workers=4, replicas=2), 0)
    assert (cpus(found), found.training, found.data) == ([1.0, 1.0], (), ())


def test_a_member_that_asks_for_nothing_still_gets_a_bundle_ray_accepts() -> None:
    found = gang(plan_of(workers=2, cpu=0, tasks=1, task_cpu=0), 2)
    assert all(sum(bundle.values()) > 0 for bundle in found.bundles)


def test_an_autoscaled_app_reserves_its_minimum() -> None:
    assert gang(plan_of(workers=1, replicas=[2, 9]), 1).inference == (0, 1)


@given(
    st.integers(1, 6),
    st.sampled_from([0, 0.5, 1, 2]),
    st.integers(1, 6),
    st.sampled_from([0, 0.25, 0.5, 1, 3]),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_every_axis_fits_its_bundles_at_the_same_time(
    workers: int, cpu: float, tasks: int, task_cpu: float, replicas: int | None
) -> None:
    found = gang(plan_of(workers, cpu, tasks, task_cpu, replicas), workers)
    for need, seats, members in (
        (cpu, found.training, workers),
        (task_cpu, found.data, tasks),
        (1.0, found.inference, replicas or 0),
    ):
        assert len(seats) == members
        for index, bundle in enumerate(found.bundles):
            assert seats.count(index) * need <= bundle.get("CPU", 0.0) + 1e-9
    largest = max(workers * cpu, tasks * task_cpu, replicas or 0)
    assert found.total.get("CPU", 0.0) >= largest - 1e-9


@pytest.mark.parametrize(
    ("plan", "nodes", "text"),
    [
        (
            plan_of(workers=4),
            nodes_of(2),
            "needs 4 × {CPU: 1}; 1 node offers 2; short by 2 CPU. training.workers=2 fits",
        ),
        (
            plan_of(workers=8, cpu=4, gpu=1),
            nodes_of(64, 64, 64, GPU=2),
            "needs 8 × {CPU: 4, GPU: 1}; 3 nodes offer 6; short by 2 GPU. training.workers=6 fits",
        ),
        (
            plan_of(workers=3, cpu=2),
            nodes_of(3, 3),
            "needs 3 × {CPU: 2}, each whole on one node; 2 nodes have room for 2 of 3 such "
            "bundles. training.workers=2 fits",
        ),
        (
            plan_of(workers=1, replicas=4),
            nodes_of(3),
            "needs 4 × {CPU: 1}; 1 node offers 3; short by 1 CPU. inference.replicas=3 fits",
        ),
        (
            plan_of(workers=2, replicas=4),
            nodes_of(1),
            "needs 4 × {CPU: 1}; 1 node offers 1; short by 3 CPU. "
            "training.workers=1 inference.replicas=1 fits",
        ),
        (
            plan_of(workers=2, memory="8GiB"),
            nodes_of(8, memory=12 * 2**30),
            "needs 2 × {CPU: 1, memory: 8GiB}; 1 node offers 12GiB; short by 4GiB memory. "
            "training.workers=1 fits",
        ),
        (
            plan_of(workers=2, gpu=1),
            nodes_of(8),
            "needs 2 × {CPU: 1, GPU: 1}; 1 node offers 0; short by 2 GPU. Nothing smaller fits",
        ),
        (
            plan_of(workers=1),
            [],
            "needs 1 × {CPU: 1}; 0 nodes offer 0; short by 1 CPU. Nothing smaller fits",
        ),
    ],
)
def test_a_refusal_names_what_is_missing_and_what_fits(
    plan: Plan, nodes: list[Node], text: str
) -> None:
    workers = plan.training.workers.max
    found = preflight(gang(plan, workers), nodes, smaller_gangs(plan, workers))
    assert [shortfall.render() for shortfall in found] == [text]
    with pytest.raises(InfeasibleError, match="needs"):
        choose_gang(plan, nodes, (workers,))


def test_dead_nodes_offer_nothing() -> None:
    dead = [Node("a", {"CPU": 8.0}, alive=False), Node("b", {"CPU": 1.0})]
    assert preflight(gang(plan_of(workers=2), 2), dead)
    assert not preflight(gang(plan_of(workers=1), 1), dead)


def test_an_elastic_run_takes_the_largest_legal_count_that_fits() -> None:
    plan = plan_of(workers=[2, 8])  # 24 samples: 2, 3, 4, 6 and 8 are legal
    assert largest_fit(plan, nodes_of(4, 3)) == 6
    assert largest_fit(plan, nodes_of(64)) == 8
    assert largest_fit(plan, nodes_of(1)) is None
    assert choose_gang(plan, nodes_of(5), (8, 6, 4, 3, 2)).gang.workers == 4


def meshed(workers: Any, **model: int) -> Plan:
    plan = plan_of(workers=workers)
    return Plan.model_validate({**plan.model_dump(mode="json"), "model": model})


def test_the_gang_says_which_mesh_it_forms_and_why() -> None:
    plan = meshed([1, 8], replicate=2, shard=4)
    assert choose_gang(plan, nodes_of(4, 4), (8, 6, 4, 3, 2, 1)).reason.startswith(
        "8 workers: replicate 2 · shard 4; a batch of 24 = 8 × 3 samples"
    )
    after_a_loss = choose_gang(plan, nodes_of(4), (8, 6, 4, 3, 2, 1), before=8)
    assert after_a_loss.gang.workers == 4
    assert after_a_loss.reason == (
        "8 → 4 workers: replicate 2 → 1, shard 4 kept; "
        "the batch stays 24 = 4 × 6 samples, by 1 → 2 passes of 3"
    )
    assert choose_gang(plan, nodes_of(3), ()).reason == ""


def test_groups_inside_nodes_are_worth_some_workers() -> None:
    plan = meshed([2, 8], tensor=2, pipeline=2, shard=2, replicate=1)
    chosen = choose_gang(plan, nodes_of(5, 3), (8, 4))
    assert chosen.gang.workers == 4
    assert "8 workers would fit, but only with groups across nodes" in chosen.reason
    assert choose_gang(plan, nodes_of(4, 4), (8, 4)).gang.workers == 8
    across = choose_gang(plan, nodes_of(3, 3, 2), (8, 4))
    assert across.gang.workers == 8
    assert "2 of 2 tensor·pipeline groups of 4 reach across nodes" in across.reason


def test_a_gang_that_fits_is_chosen_even_if_its_data_tasks_leave_less_room() -> None:
    """Bundles may be larger than a worker needs; what fits is not refused for that."""
    plan = plan_of(workers=[1, 3], tasks=1, task_cpu=3)
    assert choose_gang(plan, nodes_of(3, 2), (3, 2, 1)).gang.workers == 3


def test_a_refusal_names_the_smallest_mesh_of_an_elastic_plan() -> None:
    plan = meshed([4, 8], tensor=2, pipeline=2)
    with pytest.raises(InfeasibleError) as caught:
        choose_gang(plan, nodes_of(2, 1), (8, 4))
    first, second = str(caught.value).splitlines()
    assert first == (
        "no mesh of this plan fits: the smallest is tensor 2 · pipeline 2, on 4 workers, "
        "of 4 or 8 that are legal"
    )
    assert second.startswith("needs 4 × {CPU: 1}; 2 nodes offer 3; short by 1 CPU")


def placeable(demand: tuple[int, ...], rooms: tuple[int, ...]) -> bool:
    """By trying every assignment: slow, and certainly right."""
    return any(
        all(
            sum(need for need, node in zip(demand, chosen, strict=True) if node == index) <= room
            for index, room in enumerate(rooms)
        )
        for chosen in itertools.product(range(len(rooms)), repeat=len(demand))
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
)
def test_fits_and_refusals_are_never_wrong(demand: list[int], rooms: list[int]) -> None:
    wanted = Gang(tuple({"CPU": float(need)} for need in demand))
    nodes = nodes_of(*map(float, rooms))
    possible = placeable(tuple(demand), tuple(rooms))
    if fits(wanted, nodes):
        assert possible
    if preflight(wanted, nodes):
        assert not possible
    if len(set(demand)) == 1:  # equal bundles: both are exact
        assert fits(wanted, nodes) == possible == (not preflight(wanted, nodes))


def test_a_thousand_nodes_are_judged_at_once() -> None:
    plan = Plan.model_validate(
        {
            "name": "p",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "x"}},
            "training": {"workers": 8192, "global_batch": 8192, "resources": {"cpu": 1, "gpu": 1}},
        }
    )
    nodes = [Node(str(index), {"CPU": 64.0, "GPU": 8.0}) for index in range(1000)]
    with pytest.raises(InfeasibleError, match=r"short by 192 GPU\. training\.workers=4096 fits"):
        choose_gang(plan, nodes, (8192,))
