"""Runs wait for room, get it in turn, and give it back; the cluster is a list of nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.entries import Grow, Position, Shrink
from orchestrator.coordinator.node import Node
from orchestrator.errors import InfeasibleError, PlacementTimeout
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.runtime import gang as gangs
from orchestrator.runtime.scheduler import Scheduler
from orchestrator.runtime.turns import Ask

pytestmark = pytest.mark.unit


def plan_of(name: str, workers: Any = 2, priority: int = 0) -> Plan:
    return Plan.model_validate(
        {
            "name": name,
            "job": "jobs.digits:Digits",
            "data": {"source": {"kind": "text", "path": "x"}, "tasks": 1},
            "training": {"workers": workers, "steps": 50, "global_batch": 32},
            "coordination": {"priority": priority},
        }
    )


class Cluster:
    """Nodes, what others hold of them, and the placement groups that were made."""

    def __init__(self) -> None:
        self.nodes = [Node("a", {"CPU": 2.0})]
        self.foreign = 0.0
        self.groups: dict[str, Assignment] = {}
        self.refusals = 0
        self.positions: list[Position] = []
        self.shrinks: list[Shrink] = []
        self.grows: list[Grow] = []

    def free(self) -> dict[str, dict[str, float]]:
        """As Ray reports it, which knows nothing of bundles here."""
        return {node.id: {"CPU": node.resources["CPU"] - self.foreign} for node in self.nodes}

    def place(self, name: str, assignment: Assignment, *_: Any) -> object | None:
        if self.refusals:
            self.refusals -= 1
            return None
        self.groups[name] = assignment
        return object()

    def queued(self, _uri: str, position: Position) -> None:
        self.positions.append(position)

    def shrink(self, _uri: str, shrink: Shrink) -> bool:
        self.shrinks.append(shrink)
        return True

    def grow(self, _uri: str, grow: Grow, _since: float) -> None:
        self.grows.append(grow)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(gangs, "place", made.place)
    monkeypatch.setattr(gangs, "release", lambda name: made.groups.pop(name, None))
    return made


@pytest.fixture
def scheduler(cluster: Cluster) -> Scheduler:
    return Scheduler(cluster, lambda: cluster.nodes, cluster.free)


def ask_of(plan: Plan, timeout_seconds: float = 10.0, **more: Any) -> Ask:
    return Ask(
        uri=f"/{plan.name}", plan=plan, attempt=1, workers=legal_workers(plan), strategy="PACK",
        timeout_seconds=timeout_seconds, **more,
    )  # fmt: skip


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    came_to: list[Any] = []

    def run() -> None:
        try:
            came_to.append(work())
        except Exception as error:
            came_to.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came_to


def test_a_second_run_waits_until_the_first_has_given_its_gang_back(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    first = scheduler.place(ask_of(plan_of("first")))
    assert first.nodes_by_rank == ("a", "a")
    thread, came_to = in_thread(lambda: scheduler.place(ask_of(plan_of("second"))))
    time.sleep(0.5)
    assert list(cluster.groups) == ["axis-first-attempt-0001"]
    assert came_to == []
    (position,) = cluster.positions
    assert position.render() == (
        "1st of 1: needs 2 × {CPU: 1}; 0 are free; run first (priority 0) holds 2"
    )
    scheduler.release("/first", "first", (1,), keep=False)
    thread.join(5)
    assert list(cluster.groups) == ["axis-second-attempt-0001"]


def test_what_a_run_gives_back_to_take_again_goes_to_nobody_else(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    scheduler.place(ask_of(plan_of("first")))
    thread, came_to = in_thread(lambda: scheduler.place(ask_of(plan_of("second"))))
    time.sleep(0.3)
    scheduler.release("/first", "first", (1,), keep=True)
    time.sleep(0.5)
    assert came_to == []
    again = scheduler.place(ask_of(plan_of("first")))
    assert again.nodes_by_rank == ("a", "a")
    scheduler.release("/first", "first", (1,), keep=False)
    scheduler.forget("/first")
    thread.join(5)
    assert isinstance(came_to[0], Assignment)


def test_at_the_deadline_it_is_said_what_was_missing_and_nothing_is_held(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    cluster.foreign = 1.0
    with pytest.raises(PlacementTimeout) as raised:
        scheduler.place(ask_of(plan_of("first"), timeout_seconds=0.5))
    assert str(raised.value) == (
        "the gang was not placed within 0.5 s: needs 2 × {CPU: 1}; 1 is free"
    )
    cluster.foreign = 0.0
    assert scheduler.assignment("/first") is None
    assert scheduler.place(ask_of(plan_of("other"))).nodes == ("a", "a")


def test_what_can_never_fit_is_refused_at_once_unless_nodes_may_come_back(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    large = plan_of("large", workers=4)
    began = time.monotonic()
    with pytest.raises(InfeasibleError, match="short by 2 CPU"):
        scheduler.place(ask_of(large))
    assert time.monotonic() - began < 2
    thread, came_to = in_thread(lambda: scheduler.place(ask_of(large, repairing=True)))
    time.sleep(0.4)
    assert came_to == []
    cluster.nodes = [*cluster.nodes, Node("b", {"CPU": 2.0})]
    thread.join(5)
    assert sorted(came_to[0].nodes) == ["a", "a", "b", "b"]


def test_room_that_somebody_outside_was_quicker_to_take_is_waited_for_again(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    cluster.refusals = 2
    scheduler.place(ask_of(plan_of("first")))
    assert cluster.refusals == 0
    assert list(cluster.groups) == ["axis-first-attempt-0001"]


def test_a_run_that_withdraws_stops_waiting(cluster: Cluster, scheduler: Scheduler) -> None:
    cluster.foreign = 2.0
    thread, came_to = in_thread(lambda: scheduler.place(ask_of(plan_of("first"), 60.0)))
    time.sleep(0.3)
    scheduler.release("/first", "first", (1,), keep=False)
    thread.join(5)
    assert isinstance(came_to[0], PlacementTimeout)
    assert "withdrawn" in str(came_to[0])
    assert cluster.groups == {}


def test_excluded_nodes_are_left_out(cluster: Cluster, scheduler: Scheduler) -> None:
    cluster.nodes = [Node("a", {"CPU": 2.0}), Node("b", {"CPU": 2.0})]
    found = scheduler.place(ask_of(plan_of("first"), excluded=frozenset({"a"})))
    assert found.nodes == ("b", "b")


def test_an_elastic_run_makes_room_for_a_more_urgent_one_and_grows_back(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    humble, urgent = plan_of("humble", workers=[1, 2]), plan_of("urgent", 1, priority=5)
    assert scheduler.place(ask_of(humble)).gang.workers == 2
    thread, came_to = in_thread(lambda: scheduler.place(ask_of(urgent)))
    deadline = time.monotonic() + 5
    while not cluster.shrinks:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (shrink,) = cluster.shrinks
    assert (shrink.run, shrink.workers, shrink.room_for) == ("humble", 1, "urgent")
    scheduler.release("/humble", "humble", (1,), keep=True)
    thread.join(5)
    assert came_to[0].gang.workers == 1
    assert scheduler.place(ask_of(humble)).gang.workers == 1
    scheduler.release("/urgent", "urgent", (1,), keep=False)
    deadline = time.monotonic() + 5
    while not cluster.grows:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (cluster.grows[0].run, cluster.grows[0].workers) == ("humble", 2)


def test_a_gang_that_is_adopted_is_not_given_to_others(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    held = scheduler.place(ask_of(plan_of("first")))
    reborn = Scheduler(cluster, lambda: cluster.nodes, cluster.free)
    reborn.adopt("/first", plan_of("first"), held)
    with pytest.raises(PlacementTimeout, match=r"run first \(priority 0\) holds 2"):
        reborn.place(ask_of(plan_of("second"), timeout_seconds=0.5))
