"""Labels: which nodes a selector means, who shares a bundle, and what is said to be missing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.coordinator.first_fit import first_fit
from orchestrator.coordinator.gang import gang
from orchestrator.coordinator.needs import TICKS, Need
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.placement import choose_gang, options_of, preflight
from orchestrator.coordinator.preflight import fits, smaller_gangs
from orchestrator.coordinator.rooms import Rooms
from orchestrator.errors import InfeasibleError
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.selectors import combine, format_selector, matches, parse
from tests.coordinator.clusters import node, plan_of

pytestmark = pytest.mark.unit

values = st.sampled_from(["a", "b", "c"])
expressions = st.one_of(
    values,
    values.map("!{}".format),
    st.lists(values, min_size=1).map(lambda found: f"in({', '.join(found)})"),
    st.lists(values, min_size=1).map(lambda found: f"!in({','.join(found)})"),
)
selectors = st.dictionaries(st.sampled_from(["zone", "kind"]), expressions)
labels = st.dictionaries(st.sampled_from(["zone", "kind"]), st.sampled_from(["a", "b", "c", "d"]))


@pytest.mark.parametrize(
    ("expression", "meant"),
    [("a", "a"), ("!a", "bc-"), ("in(a, b)", "ab"), ("!in(a,b)", "c-"), ("in(a)", "a")],
)
def test_a_missing_label_is_meant_by_negations_alone(expression: str, meant: str) -> None:
    found = [each for each in "abc" if matches({"zone": expression}, {"zone": each})]
    found += ["-"] if matches({"zone": expression}, {}) else []
    assert "".join(found) == meant


@pytest.mark.parametrize("expression", ["", "in()", "in(a", "a,b", "!!a", "not(a)", "(a)"])
def test_another_syntax_is_refused(expression: str) -> None:
    with pytest.raises(Refusal, match="selects no labels; works: value"):
        parse(expression)


@settings(deadline=None)
@given(selectors, selectors, labels)
def test_a_combined_selector_means_exactly_the_nodes_that_both_mean(
    one: dict[str, str], other: dict[str, str], node_labels: dict[str, str]
) -> None:
    both = combine(one, other)
    wanted = matches(one, node_labels) and matches(other, node_labels)
    assert (both is not None and matches(both, node_labels)) == wanted


def test_selectors_in_words() -> None:
    assert format_selector({}) == ""
    found = format_selector({"zone": "in(b,a)", "kind": "!cpu", "accelerator": "H200"})
    assert found == "accelerator=H200, kind other than cpu, zone=a or b"


def labelled(**axes: dict[str, str]) -> dict[str, dict[str, object]]:
    return {name: {"resources": {"label_selector": asked}} for name, asked in axes.items()}


def test_members_that_share_a_bundle_ask_for_the_labels_of_both() -> None:
    plan = plan_of(2, **labelled(training={"zone": "in(a,b)"}, data={"zone": "!a", "kind": "cpu"}))
    found = gang(plan, 2)
    assert found.data == (0,)
    assert found.selectors == ({"zone": "b", "kind": "cpu"}, {"zone": "in(a,b)"})


def test_members_whose_labels_contradict_each_other_share_no_bundle() -> None:
    plan = plan_of(2, **labelled(training={"zone": "a"}, data={"zone": "b"}))
    found = gang(plan, 2)
    assert (found.training, found.data) == ((0, 1), (2,))
    assert found.selectors == ({"zone": "a"}, {"zone": "a"}, {"zone": "b"})


def test_members_whose_labels_no_node_has_together_share_no_bundle() -> None:
    plan = plan_of(1, **labelled(training={"kind": "gpu"}, data={"disk": "nvme"}))
    both = Node("c", {}, {"kind": "gpu", "disk": "nvme"})
    nodes = [Node("a", {}, {"kind": "gpu"}), Node("b", {}, {"disk": "nvme"})]
    assert len(gang(plan, 1).bundles) == 1
    assert len(gang(plan, 1, nodes=nodes).bundles) == 2
    assert len(gang(plan, 1, nodes=[*nodes, both]).bundles) == 1


def test_where_too_few_nodes_have_the_labels_of_both_bundles_are_kept_apart() -> None:
    nodes = [
        node("a", 1, {"kind": "gpu", "disk": "nvme"}),
        node("b", 1, {"kind": "gpu"}),
        node("c", 1, {"disk": "nvme"}),
    ]
    data = {"resources": {"label_selector": {"disk": "nvme"}, "cpu": 1}, "tasks": 2}
    plan = plan_of(2, **labelled(training={"kind": "gpu"}), data=data)
    assert [len(option.gang.bundles) for option in options_of(plan, [2], nodes)] == [2, 4]
    with pytest.raises(InfeasibleError):
        choose_gang(plan, nodes, [2])
    nodes += [node("d", 1, {"kind": "gpu"}), node("e", 1, {"disk": "nvme"})]
    found = choose_gang(plan, nodes, [2]).assignment
    assert found is not None
    assert len(found.nodes) == 4


def test_a_refusal_counts_the_nodes_with_the_labels() -> None:
    training = {"resources": {"cpu": 1, "gpu": 1, "label_selector": {"accelerator": "H200"}}}
    plan = plan_of(4, training=training)
    nodes = [
        node("a", 8, {"accelerator": "H200"}, GPU=2.0),
        node("b", 8, {"accelerator": "H200"}, GPU=1.0),
        node("c", 8, {"accelerator": "A100"}, GPU=8.0),
    ]
    found = preflight(gang(plan, 4), nodes, smaller_gangs(plan, 4))
    assert [each.render() for each in found] == [
        "needs 4 × {CPU: 1, GPU: 1} on nodes with accelerator=H200; 2 such nodes offer 3; "
        "short by 1 GPU. training.workers=3 fits"
    ]


def test_a_refusal_says_which_labels_lack_room_on_a_single_node() -> None:
    plan = plan_of(2, training={"resources": {"cpu": 2, "label_selector": {"zone": "a"}}})
    nodes = [node("a", 3, {"zone": "a"}), node("b", 1, {"zone": "a"}), node("c", 8)]
    found = preflight(gang(plan, 2), nodes, smaller_gangs(plan, 2))
    assert [each.render() for each in found] == [
        "needs 2 × {CPU: 2} on nodes with zone=a, each whole on one node; 2 such nodes have room "
        "for 1 of 2 such bundles. training.workers=1 fits"
    ]


def test_each_label_that_is_short_is_named_once() -> None:
    axes = labelled(training={"kind": "gpu"}, inference={"kind": "cpu"})
    axes["inference"]["replicas"] = 3
    plan = plan_of(4, **axes)
    nodes = [node("a", 2, {"kind": "gpu"}), node("b", 1, {"kind": "cpu"})]
    found = [each.render() for each in preflight(gang(plan, 4), nodes)]
    assert found == [
        "needs 3 × {CPU: 1} on nodes with kind=cpu; 1 such node offers 1; short by 2 CPU. "
        "Nothing smaller fits",
        "needs 4 × {CPU: 1} on nodes with kind=gpu; 1 such node offers 2; short by 2 CPU. "
        "Nothing smaller fits",
    ]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab-")), max_size=4),
    st.sampled_from([{}, {"zone": "a"}, {"zone": "!a"}]),
    st.sampled_from([{}, {"zone": "b"}, {"zone": "!in(a,b)"}]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_refusals_and_fits_are_never_wrong_with_labels(
    rooms: list[tuple[int, str]],
    training: dict[str, str],
    data: dict[str, str],
    workers: int,
    tasks: int,
) -> None:
    """Equal bundles of two kinds, one node each: counted by trying all ways to share them out."""
    nodes = [
        node(str(index), cpu, {} if zone == "-" else {"zone": zone})
        for index, (cpu, zone) in enumerate(rooms)
    ]
    plan = plan_of(
        workers,
        training={"global_batch": 6, "resources": {"cpu": 1, "label_selector": training}},
        data={"tasks": tasks, "resources": {"cpu": 1, "label_selector": data}},
    )
    wanted = gang(plan, workers, nodes=nodes, apart=True)
    possible = _possible(
        [(dict(need.selector), count) for need, count in wanted.counts.items()], nodes
    )
    if fits(wanted, nodes):
        assert possible
    if preflight(wanted, nodes):
        assert not possible


def _possible(demand: list[tuple[dict[str, str], int]], nodes: list[Node]) -> bool:
    """Hall's condition, for bundles of one CPU: each set of kinds has room enough."""
    for mask in range(1, 2 ** len(demand)):
        some = [each for index, each in enumerate(demand) if mask >> index & 1]
        room = sum(
            int(each.resources["CPU"])
            for each in nodes
            if any(matches(selector, each.labels) for selector, _ in some)
        )
        if sum(count for _, count in some) > room:
            return False
    return True


def test_what_is_held_is_waited_for_and_excluded_nodes_count_as_gone() -> None:
    plan, nodes = plan_of([2, 4]), [node("a", 2), node("b", 2)]
    assert choose_gang(plan, nodes, [4, 2]).gang.workers == 4
    some = choose_gang(plan, nodes, [4, 2], free={"a": {"CPU": 2.0}, "b": {"CPU": 1.0}})
    assert some.gang.workers == 2
    assert some.assignment is not None
    assert some.assignment.nodes == ("a", "a")
    waits = choose_gang(plan, nodes, [4, 2], free={"a": {"CPU": 1.0}})
    assert (waits.gang.workers, waits.assignment) == (2, None)
    with pytest.raises(InfeasibleError, match="left out as suspect, draining or given up: a, b"):
        choose_gang(plan, nodes, [4, 2], excluded=["a", "b", "gone"])


def test_strict_takes_fewer_workers_or_refuses() -> None:
    gangs = {"gang": {"placement": "strict"}}
    model = {"tensor": 2, "replicate": -1}
    plan = plan_of([2, 4], model=model, coordination=gangs)
    assert choose_gang(plan, [node("a", 3), node("b", 1)], [4, 2]).gang.workers == 2
    held = choose_gang(plan, [node("a", 2)], [4, 2], free={"a": {"CPU": 1.0}})
    assert held.assignment is None
    with pytest.raises(InfeasibleError, match="placement is strict, and 1 of 1 tensor groups of 2"):
        choose_gang(plan, [node("a", 1), node("b", 1)], [4, 2])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=6),
    st.integers(1, 6),
    st.integers(1, 6),
)
@example([(True, True, 1), (True, False, 1), (False, True, 1)], 1, 2)
@example([(True, True, 1), (True, False, 1), (False, True, 1)], 2, 1)
def test_of_two_kinds_neither_takes_what_only_the_other_could_not_do_without(
    found: list[tuple[bool, bool, int]], num_fast: int, num_near: int
) -> None:
    """Hall's condition: room for each, and room for both together."""
    nodes = [
        Node(f"n{i}", {"CPU": cpus}, _labels(is_fast, is_near))
        for i, (is_fast, is_near, cpus) in enumerate(found)
    ]
    fast = Need((("CPU", TICKS),), (("kind", "fast"),))
    near = Need((("CPU", TICKS),), (("zone", "near"),))
    fits_both = (
        num_fast <= sum(cpus for is_fast, _, cpus in found if is_fast)
        and num_near <= sum(cpus for _, is_near, cpus in found if is_near)
        and num_fast + num_near <= sum(cpus for *labels, cpus in found if any(labels))
    )
    placed = first_fit({fast: num_fast, near: num_near}, Rooms(nodes))
    assert (placed is not None) == fits_both


def _labels(is_fast: bool, is_near: bool) -> dict[str, str]:
    return ({"kind": "fast"} if is_fast else {}) | ({"zone": "near"} if is_near else {})
