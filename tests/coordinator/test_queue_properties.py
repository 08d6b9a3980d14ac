"""What holds of the queue whatever runs come: checked by a cluster that does what it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.coordinator.preflight import fits
from orchestrator.coordinator.queue import schedule
from tests.coordinator.clusters import node
from tests.coordinator.queue_model import Model, mixed, sizes

pytestmark = pytest.mark.unit

rooms = st.lists(st.integers(1, 6), min_size=1, max_size=4)
asked = st.lists(st.integers(1, 8), min_size=1, max_size=3, unique=True)


def cluster(found: list[int]) -> Model:
    return Model([node(f"n{index}", cpu) for index, cpu in enumerate(found)])


@settings(max_examples=150, deadline=None)
@given(rooms, st.data())
def test_no_node_is_over_committed_and_no_gang_is_partial(
    found: list[int], data: st.DataObject
) -> None:
    """The model checks this, and the claims, after each decision."""
    model = cluster(found)
    for turn in range(data.draw(st.integers(1, 12))):
        for index in range(data.draw(st.integers(0, 2))):
            cpu = data.draw(st.sampled_from([1.0, 1.0, 0.5, 2.0]))
            options = sizes(*data.draw(asked), cpu=cpu)
            if data.draw(st.booleans()):
                chance = random.Random(data.draw(st.integers(0, 999)))
                options = (mixed(chance, data.draw(st.integers(1, 6))),)
            model.come(
                f"r{turn}-{index}",
                options,
                data.draw(st.integers(0, 2)),
                excluded=frozenset(data.draw(st.sets(st.sampled_from(["n0", "n1"]), max_size=1))),
            )
        model.decide()
        if data.draw(st.booleans()):
            model.settle()
        elif data.draw(st.booleans()):
            model.grow()
        if model.holding and data.draw(st.booleans()):
            model.end(data.draw(st.sampled_from(sorted(model.holding))))


@settings(max_examples=100, deadline=None)
@given(rooms, st.lists(st.tuples(asked, st.integers(0, 2)), max_size=6), st.randoms())
def test_the_same_values_come_to_the_same_decision_in_whatever_order(
    found: list[int], runs: list[tuple[list[int], int]], shuffled: random.Random
) -> None:
    model = cluster(found)
    for index, (counts, priority) in enumerate(runs):
        model.come(f"r{index}", sizes(*counts), priority)
        if index == len(runs) // 2:
            model.decide()
    waiting, holding = list(model.waiting.values()), list(model.holding.values())
    once = schedule(waiting, holding, model.nodes, model.free())
    for each in (waiting, holding):
        shuffled.shuffle(each)
    assert schedule(waiting, holding, model.nodes[::-1], model.free()) == once


@settings(max_examples=150, deadline=None)
@given(rooms, st.lists(st.tuples(asked, st.integers(0, 2)), max_size=5), asked)
def test_a_higher_priority_never_waits_behind_a_lower_one_that_could_shrink(
    found: list[int], runs: list[tuple[list[int], int]], counts: list[int]
) -> None:
    model = cluster(found)
    for index, (each, priority) in enumerate(runs):
        model.come(f"r{index}", sizes(*each), priority)
    model.decide()
    model.waiting.clear()
    free = sum(sum(room.values()) for room in model.free().values())
    spare = sum(
        held.workers - held.options[-1].workers
        for held in model.holding.values()
        if held.priority < 2
    )
    model.come("high", sizes(*counts), 2)
    said = model.decide()
    if min(counts) <= free:
        assert "high" in model.holding
        assert not said.shrinks
    elif min(counts) <= free + spare:
        assert said.shrinks
        assert all(model.holding[each.run].workers - each.workers <= spare for each in said.shrinks)
        model.settle()
        said = model.decide()
        assert "high" in model.holding
        assert not model.waiting, "those that made room must go on, smaller"
    else:
        assert not said.shrinks


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=4),
    st.sampled_from([1.0, 0.5, 2.0]),
    st.randoms(use_true_random=False),
)
def test_a_large_gang_is_placed_whatever_small_ones_arrive(
    found: list[int], cpu: float, chance: random.Random
) -> None:
    """Small runs fill the cluster, and each that ends is followed by two. Each ends some day."""
    model = cluster(found)
    capacity = sum(int(room // cpu) for room in found)
    num_small = 0

    def small_runs_come(count: int) -> None:
        nonlocal num_small
        for _ in range(count):
            num_small += 1
            model.come(
                f"small{num_small}", sizes(chance.choice([1, 1, 2]), cpu=chance.choice([1.0, 0.5]))
            )

    small_runs_come(2 * sum(found))
    model.decide()
    model.come("large", sizes(max(1, capacity - chance.randint(0, 1)), cpu=cpu))
    before = len(model.holding)
    for _ in range(4 * before + 20):
        said = model.decide()
        if "large" in model.holding:
            return
        model.end(chance.choice(sorted(model.holding, key=model.arrived)[:3]))
        small_runs_come(2)
    pytest.fail(f"never placed: {said.positions}")


@settings(max_examples=100, deadline=None)
@given(rooms, st.lists(st.tuples(asked, st.integers(0, 1)), min_size=1, max_size=4), asked)
def test_runs_that_shrank_grow_back_when_the_queue_is_empty(
    found: list[int], runs: list[tuple[list[int], int]], counts: list[int]
) -> None:
    model = cluster(found)
    for index, (each, priority) in enumerate(runs):
        model.come(f"r{index}", sizes(*each), priority)
    model.decide()
    model.waiting.clear()
    before = {run: held.workers for run, held in model.holding.items()}
    model.come("high", sizes(*counts), 2)
    for _ in range(2):
        model.decide()
        model.settle()
    model.decide()
    if "high" not in model.holding:
        return
    model.end("high")
    for _ in range(len(before) + 1):
        model.decide()
        model.grow()
    model.decide()
    assert not model.said.grows
    assert not model.waiting
    after = {run: held.workers for run, held in model.holding.items()}
    assert sum(after.values()) >= sum(before.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
@example(901)  # fits whole, in one order of the nodes alone
def test_a_large_gang_of_any_make_is_placed(seed: int) -> None:
    """What fits the empty cluster is placed in the end, among others that are just as mixed."""
    chance = random.Random(seed)
    nodes = [
        node(f"n{index}", chance.randint(2, 8), {"rack": chance.choice("xy")})
        for index in range(chance.randint(1, 6))
    ]
    model = Model(nodes)
    most = int(sum(each.resources["CPU"] for each in nodes))
    for index in range(20):
        model.come(f"small{index}", (mixed(chance, chance.randint(1, 2)),), topology=("rack",))
    model.decide()
    options = (mixed(chance, workers) for workers in range(most, 0, -1))
    large = next((o for o in options if fits(o.gang, nodes)), None)
    if large is None:
        return
    model.come("large", (large,), topology=("rack",))
    for turn in range(120):
        model.decide()
        if "large" in model.holding:
            return
        if model.holding:
            model.end(chance.choice(sorted(model.holding, key=model.arrived)[:3]))
        model.come(f"later{turn}", (mixed(chance, chance.randint(1, 2)),), topology=("rack",))
    pytest.fail(f"seed {seed}: never placed: {model.said.positions[0].render()}")
