"""Whatever the plan, the pods that are rendered hold its gang, at its fewest and most workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from orchestrator.coordinator.gang import Gang, asks_for_labels, gang
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.placement import choose_gang
from orchestrator.errors import InfeasibleError, PlanError, Problem
from orchestrator.plan.mesh_choice import group_size
from orchestrator.plan.plan import Plan
from orchestrator.plan.selectors import matches
from orchestrator.plan.sizes import legal_workers, mesh_for
from orchestrator.render.nodes import ray_labels
from orchestrator.render.profile import NodeSize, Profile
from orchestrator.render.sizing import Sized, size
from tests.render.plans import SHAPES, plan_of, plans

pytestmark = pytest.mark.unit


def nodes_of(sized: Sized, most: bool) -> Iterator[Node]:
    """The Ray nodes that the pods are, and the head, which offers nothing."""
    yield Node("head", {})
    for group in sized.groups:
        for index in range(group.max_pods if most else group.min_pods):
            offered = {name: float(amount) for name, amount in group.offered.items()}
            labels = {**ray_labels(group.selector), **detected(group.selector)}
            yield Node(f"{group.name}-{index}", offered, labels)


def detected(selector: object) -> dict[str, str]:
    """What Ray finds out about a node by itself."""
    found = dict(selector)  # type: ignore[call-overload]
    return {k: v for k, v in found.items() if k == "ray.io/accelerator-type"}


def check(plan: Plan, sized: Sized) -> None:
    counts = legal_workers(plan)
    assert (sized.fewest, sized.most) == (counts[0], counts[-1])
    for count in counts:
        assert_held(gang(plan, count, apart=True), sized, most=True)
    assert_held(gang(plan, counts[0], apart=True), sized, most=False)
    # The coordinator refuses neither; of the largest number alone: of several, one whose groups lie
    # whole may be preferred.
    large = choose_gang(plan, list(nodes_of(sized, most=True)), counts[-1:])
    small = choose_gang(plan, list(nodes_of(sized, most=False)), counts[:1])
    if not asks_for_labels(plan):
        # With labels that overlap, its first fit may take a room that another bundle needs.
        assert large.assignment is not None
        assert small.assignment is not None


def assert_held(wanted: Gang, sized: Sized, most: bool) -> None:
    """Each bundle has a place of its own in the pods of a group, of which it fills one share."""
    selectors = wanted.selectors or ({},) * len(wanted.bundles)
    room = {g.name: g.per_pod * (g.max_pods if most else g.min_pods) for g in sized.groups}
    for bundle, selector in zip(wanted.bundles, selectors, strict=True):
        fitting = [
            group.name
            for group in sized.groups
            if room[group.name]
            and matches(selector, {**ray_labels(group.selector), **detected(group.selector)})
            and group.selector == selector
            and all(amount <= group.bundle.get(name, 0) for name, amount in bundle.items())
        ]
        # The group with the least to spare: one without GPUs for a bundle without.
        chosen = min(fitting, key=lambda name: len(bundle_of(sized, name)), default=None)
        assert chosen is not None, f"{dict(bundle)} has no place"
        room[chosen] -= 1


def bundle_of(sized: Sized, name: str) -> dict[str, float]:
    (group,) = [group for group in sized.groups if group.name == name]
    return dict(group.bundle)


def sized_or_not(
    plan: Plan, profile: Profile, uniform: bool = False
) -> tuple[Sized | None, tuple[Problem, ...]]:
    try:
        return size(plan, profile, "job", uniform=uniform), ()
    except PlanError as error:
        return None, error.problems


@given(plans())
@settings(max_examples=300, deadline=None)
def test_the_pods_hold_the_gang(plan: Plan) -> None:
    check(plan, size(plan, Profile(), "job"))


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_pods_hold_the_gang_of_each_shape(shape: str) -> None:
    plan = plan_of(shape)
    check(plan, size(plan, Profile(), "job"))


@given(plans())
@settings(max_examples=150, deadline=None)
def test_no_pod_is_larger_than_a_node(plan: Plan) -> None:
    node = NodeSize(cpu=16, memory=64 * 2**30, gpu=4)
    sized, problems = sized_or_not(plan, Profile(node=node))
    assert all(problem.works for problem in problems)
    if sized is None:
        return
    for group in sized.groups:
        assert group.cpus <= node.cpu
        assert group.memory_bytes <= node.memory
        assert group.gpus <= (node.gpu or 0)
    check(plan, sized)


@given(plans())
@settings(max_examples=150, deadline=None)
def test_nodes_of_one_kind_hold_it_too(plan: Plan) -> None:
    sized, problems = sized_or_not(plan, Profile(), uniform=True)
    assert all("ask for different nodes" in problem.what for problem in problems)
    if sized is None:
        return
    assert len(sized.groups) == 1
    check(plan, sized)


def test_one_pod_less_would_not_do() -> None:
    plan = plan_of("gpus")
    sized = size(plan, Profile(), "job")
    nodes = list(nodes_of(sized, most=True))
    with pytest.raises(InfeasibleError):
        choose_gang(plan, nodes[:-1], legal_workers(plan))


def test_a_tensor_group_is_one_pod() -> None:
    plan = plan_of("tensor-gpus")
    (group,) = size(plan, Profile(), "job").groups
    assert group_size(mesh_for(plan, 16)) == 4
    assert (group.per_pod, group.min_pods, group.max_pods, group.gpus) == (4, 1, 4, 4)


def test_a_tensor_group_that_fits_no_node_is_split_or_refused() -> None:
    small = Profile(node=NodeSize(gpu=2))
    sized = size(plan_of("tensor-gpus"), small, "job")
    assert sized.groups[0].per_pod == 2
    assert "over the network" in sized.warnings[0]
    with pytest.raises(PlanError, match=r"a pod holds 2 of them"):
        size(plan_of("tensor-gpus", "coordination.gang.placement=strict"), small, "job")


def test_pods_of_a_service_are_its_replicas() -> None:
    sized = size(plan_of("gpu-replicas"), Profile(), "service")
    (group,) = sized.groups
    assert (group.name, group.min_pods, group.max_pods, group.gpus) == ("inference", 2, 6, 1)


def test_whole_cpus_are_filled() -> None:
    (group,) = size(plan_of("batch"), Profile(), "job").groups
    assert (group.per_pod, group.cpus, group.max_pods) == (2, 1, 1)


def test_workers_per_pod_is_heeded_or_refused() -> None:
    sized = size(plan_of("gpus", "training.workers=4"), Profile(workers_per_pod=2), "job")
    assert [(group.gpus, group.max_pods) for group in sized.groups] == [(2, 2)]
    profile = Profile(workers_per_pod=8, node=NodeSize(gpu=4))
    with pytest.raises(PlanError, match="workers_per_pod: 4"):
        size(plan_of("gpus", "training.workers=16"), profile, "job")
