"""The queue of one coordinator: who starts, who makes room, and what is said to the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.coordinator.entries import Claim, Holding, Schedule, Waiting
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.queue import RESERVE_AFTER_SECONDS, schedule
from orchestrator.plan import Mesh
from tests.coordinator.clusters import node, workers_of
from tests.coordinator.queue_model import Model, Option, sizes

pytestmark = pytest.mark.unit

LONG = RESERVE_AFTER_SECONDS


def waits(run: str, *counts: int, priority: int = 0, arrived: int = 0, **more: object) -> Waiting:
    return Waiting(run=run, priority=priority, arrived=arrived, options=sizes(*counts), **more)  # type: ignore[arg-type]


def holds(
    run: str, where: str, *counts: int, priority: int = 0, arrived: int = 0, **more: object
) -> Holding:
    """A run with a worker of one CPU on each node of ``where``, one letter each."""
    return Holding(
        run=run, priority=priority, arrived=arrived, options=sizes(*(counts or (len(where),))),
        gang=workers_of(len(where)), nodes=tuple(where), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def decide(
    waiting: list[Waiting],
    holding: list[Holding],
    nodes: list[Node],
    claims: tuple[Claim, ...] = (),
) -> Schedule:
    """A decision on what the holdings leave free."""
    model = Model(nodes, holding={each.run: each for each in holding})
    return schedule(waiting, holding, nodes, model.free(), claims)


def granted(said: Schedule) -> dict[str, int]:
    return {grant.run: grant.option.workers for grant in said.grants}


def why(said: Schedule, run: str) -> str:
    return next(each.render() for each in said.positions if each.run == run)


def test_by_priority_then_by_arrival() -> None:
    urgent = waits("urgent", 2, priority=1, arrived=4)
    waiting = [waits("c", 2, arrived=3), waits("b", 2, arrived=2), urgent]
    said = decide(waiting, [], [node("a", 4)])
    assert [grant.run for grant in said.grants] == ["urgent", "b"]
    assert why(said, "c").startswith("1st of 1: needs 2 × {CPU: 1}; 0 are free")


def test_an_elastic_run_is_granted_the_largest_size_that_fits() -> None:
    assert granted(decide([waits("r", 8, 6, 4, 2)], [], [node("a", 3), node("b", 4)])) == {"r": 6}


def test_groups_inside_nodes_are_worth_some_workers() -> None:
    options = tuple(
        Option(count, workers_of(count), Mesh(tensor=2, replicate=count // 2)) for count in (4, 2)
    )
    run = Waiting(run="r", options=options)
    assert granted(decide([run], [], [node("a", 3), node("b", 1)])) == {"r": 2}
    assert granted(decide([run], [], [node("a", 2), node("b", 2)])) == {"r": 4}
    apart = [node("a", 1), node("b", 1), node("c", 1), node("d", 1)]
    assert granted(decide([run], [], apart)) == {"r": 4}
    strict = replace(run, placement="strict")
    said = decide([strict], [], apart)
    assert not said.grants
    assert "there is room for each alone, but not for all at once as the plan wants" in why(
        said, "r"
    )


def test_a_position_says_what_is_missing_and_who_holds_it() -> None:
    waiting = [waits("x", 4, arrived=1), waits("y", 4, arrived=2), waits("z", 9, arrived=3)]
    nodes = [node("a", 2), node("b", 2)]
    said = decide(waiting, [holds("r", "ab")], nodes)
    assert [each.render() for each in said.positions] == [
        "1st of 3: needs 4 × {CPU: 1}; 2 are free; run r (priority 0) holds 2",
        "2nd of 3: needs 4 × {CPU: 1}; 2 are free; run r (priority 0) holds 2",
        "3rd of 3: needs 9 × {CPU: 1}; 2 are free, and these nodes hold 4 in all; "
        "run r (priority 0) holds 2",
    ]


def test_many_holders_are_counted_together() -> None:
    nodes = [node(name, 1) for name in "abcde"]
    said = decide([waits("w", 5)], [holds(f"r{name}", name) for name in "abcde"], nodes)
    assert why(said, "w") == (
        "1st of 1: needs 5 × {CPU: 1}; 0 are free; run ra (priority 0) holds 1; "
        "run rb (priority 0) holds 1; run rc (priority 0) holds 1; 2 more runs hold 2"
    )


def test_a_later_run_may_start_while_an_earlier_one_has_not_waited_for_long() -> None:
    nodes, held = [node("a", 4)], [holds("r", "aa")]
    early, late = waits("large", 4, arrived=1), waits("small", 2, arrived=2)
    assert granted(decide([early, late], held, nodes)) == {"small": 2}
    patient = replace(early, waited_seconds=LONG)
    said = decide([patient, late], held, nodes)
    assert granted(said) == {}
    assert said.reservations["large"].nodes == ("a",) * 4
    assert why(said, "large").endswith("run r (priority 0) holds 2; what comes free is kept for it")
    assert "0 are free; 2 more are set aside for run large" in why(said, "small")


def test_a_later_run_may_take_what_a_reservation_does_not_need() -> None:
    nodes, wide = [node("a", 4), node("b", 5)], Option(1, workers_of(1, 3.0), Mesh())
    early = Waiting(run="large", arrived=1, options=(wide,), waited_seconds=LONG)
    held = [holds("r", "aabbbb")]
    said = decide([early, waits("small", 1, arrived=2), waits("next", 1, arrived=3)], held, nodes)
    assert said.reservations["large"].nodes == ("a",)
    assert {grant.run: grant.assignment.nodes for grant in said.grants} == {"small": ("b",)}


def test_a_reservation_stays_where_it_is_unless_less_is_missing_elsewhere() -> None:
    nodes = [node("a", 2), node("b", 2)]
    run = Waiting(run="w", options=(Option(1, workers_of(1, 2.0), Mesh()),), waited_seconds=LONG)
    both = [holds("p", "a"), holds("q", "b")]
    first = decide([run], both, nodes).reservations["w"]
    assert first.nodes == ("a",)
    elsewhere = replace(first, nodes=("b",))
    kept = decide([replace(run, reserved=elsewhere)], both, nodes)
    assert kept.reservations["w"].nodes == ("b",)


def test_an_elastic_run_of_lower_priority_makes_room_but_is_not_stopped() -> None:
    nodes = [node("a", 4)]
    low = holds("low", "aaaa", 4, 3, 2, 1)
    said = decide([waits("high", 2, priority=1)], [low], nodes)
    assert [(each.run, each.workers, each.room_for) for each in said.shrinks] == [
        ("low", 2, "high")
    ]
    assert said.shrinks[0].assignment.nodes == ("a", "a")
    assert why(said, "high").endswith("run low shrinks to 2 to make room")
    assert not decide([waits("equal", 2)], [low], nodes).shrinks
    assert not decide([waits("huge", 4, priority=1)], [low], nodes).shrinks


def test_the_lowest_priority_and_the_latest_arrival_shrink_first() -> None:
    nodes = [node("a", 9)]
    held = [
        holds("old", "aaa", 3, 1, priority=1, arrived=1),
        holds("new", "aaa", 3, 1, priority=1, arrived=2),
        holds("low", "aaa", 3, 1, priority=0, arrived=0),
    ]
    said = decide([waits("w", 2, priority=2)], held, nodes)
    assert [each.run for each in said.shrinks] == ["low"]
    said = decide([waits("w", 4, priority=2)], held, nodes)
    assert sorted(each.run for each in said.shrinks) == ["low", "new"]


def test_who_cannot_help_does_not_shrink() -> None:
    nodes = [node("a", 2), node("b", 4)]
    large = Option(1, workers_of(1, 3.0), Mesh())
    held = [holds("useless", "aa", 2, 1, arrived=9), holds("useful", "bbbb", 4, 1)]
    said = decide([Waiting(run="w", priority=1, options=(large,))], held, nodes)
    assert [each.run for each in said.shrinks] == ["useful"]


def test_room_that_is_being_made_is_waited_for_and_kept() -> None:
    nodes = [node("a", 5)]
    low = holds("low", "aaaa", 4, 2, yielding=2)
    high, other = waits("high", 3, priority=1), waits("other", 1, priority=0, arrived=1)
    said = decide([high, other], [low], nodes)
    assert not said.shrinks
    assert not said.grants
    assert why(said, "high").endswith("room is being made for it")
    after = decide([high, other, waits("low", 2)], [], nodes,
                   (Claim("low", workers_of(2), ("a", "a")),))  # fmt: skip
    assert granted(after) == {"high": 3, "low": 2}


def test_a_claim_is_open_to_its_run_alone() -> None:
    nodes, claim = [node("a", 4)], Claim("r", workers_of(3), ("a",) * 3)
    said = decide([waits("w", 2, priority=5)], [], nodes, (claim,))
    assert not said.grants
    assert why(said, "w") == (
        "1st of 1: needs 2 × {CPU: 1}; 1 is free; run r is about to take 3 back"
    )
    assert granted(decide([waits("r", 4)], [], nodes, (claim,))) == {"r": 4}


def test_runs_grow_when_nobody_who_waits_could_use_the_room() -> None:
    nodes = [node("a", 4), node("b", 2, {"kind": "other"})]
    small = holds("r", "a", 4, 2, 1)
    grows = decide([], [small], nodes).grows
    assert [(each.run, each.workers) for each in grows] == [("r", 4)]
    assert not decide([waits("w", 7)], [small], nodes).grows
    elsewhere = Option(9, replace(workers_of(9), selectors=({"kind": "other"},) * 9),
                       Mesh(shard=9))  # fmt: skip
    said = decide([Waiting(run="w", options=(elsewhere,))], [small], nodes)
    assert [each.workers for each in said.grows] == [4]
    assert not decide([], [replace(small, yielding=1)], nodes).grows


def test_the_higher_priority_grows_first_and_nothing_is_offered_twice() -> None:
    nodes = [node("a", 5)]
    held = [holds("late", "a", 3, 1, arrived=2), holds("early", "a", 4, 1, arrived=1)]
    said = decide([], held, nodes)
    assert [(each.run, each.workers) for each in said.grows] == [("early", 4)]
    held[0] = replace(held[0], priority=1)
    assert [each.run for each in decide([], held, nodes).grows] == ["late"]


def test_excluded_nodes_are_avoided_by_the_run_that_excludes_them() -> None:
    nodes = [node("a", 2), node("b", 2)]
    run = waits("r", 2, excluded=frozenset("a"))
    assert decide([run], [], nodes).grants[0].assignment.nodes == ("b", "b")
    said = decide([replace(run, options=sizes(3))], [], nodes)
    assert "2 are free" in why(said, "r")


def test_what_lies_on_a_node_that_is_gone_is_no_room() -> None:
    nodes = [node("a", 2), Node("b", {"CPU": 2.0}, alive=False)]
    said = schedule([waits("w", 3)], [holds("r", "bb")], nodes, {"a": {"CPU": 2.0}})
    assert not said.grants
    assert "these nodes hold 2 in all" in why(said, "w")
