"""Where workers are started before they are needed, and which of them a group gets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import Gang
from orchestrator.plan.load import load_plan
from orchestrator.plan.mesh import Mesh

pytestmark = pytest.mark.unit


class _Actor:
    """Takes any call."""

    def __init__(self, where: Any) -> None:
        self.where = where

    def __getattr__(self, name: str) -> Any:
        return self

    def remote(self, *_: Any) -> object:
        return object()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[_Actor]:
    """What is started, instead of processes."""
    from orchestrator.runtime import standby

    found: list[_Actor] = []

    def start(where: Any, _env_vars: Any) -> _Actor:
        found.append(_Actor(where))
        return found[-1]

    monkeypatch.setattr(standby, "standby_worker", start)
    monkeypatch.setattr(standby, "spare_controller", lambda: _Actor("controller"))
    monkeypatch.setattr(standby, "inside_bundle", lambda _group, bundle: bundle)
    monkeypatch.setattr(standby, "_ready", lambda _calls, _timeout: [])
    return found


def _standbys(*overrides: str) -> Any:
    from orchestrator.runtime.standby import Standbys

    return Standbys(load_plan("configs/digits.yaml", list(overrides)).plan, {})


def _assignment() -> Assignment:
    """Three workers in bundles 1, 2 and 3, whose ranks are not in the order of their bundles."""
    gang = Gang(tuple({"CPU": 1.0} for _ in range(4)), training=(1, 2, 3))
    return Assignment(gang, ("data", "a", "b", "b"), ranks=(2, 0, 1), mesh=Mesh(replicate=3))


def test_each_worker_is_started_in_its_own_bundle_and_kept_by_that_node(
    started: list[_Actor],
) -> None:
    standbys, assignment = _standbys(), _assignment()
    standbys.start_early((assignment, "group"))
    assert [actor.where for actor in started] == [1, 2, 3]
    warm = standbys.take(assignment)
    found = {node: {actor.where for actor in actors} for node, actors in warm.workers.items()}
    assert found == {"a": {1}, "b": {2, 3}}
    assert warm.controller is not None


def test_those_that_are_there_are_not_started_again(started: list[_Actor]) -> None:
    standbys, assignment = _standbys(), _assignment()
    standbys.start_early((assignment, "group"))
    standbys.start_early((assignment, "group"))
    assert len(started) == 3


def test_on_nodes_with_gpus_nothing_is_started_early(started: list[_Actor]) -> None:
    standbys = _standbys("training.resources.gpu=1")
    standbys.start_early((_assignment(), "group"))
    assert started == []
    assert standbys.take(_assignment()).controller is None


def test_beside_a_group_there_are_none_before_it_has_stepped_for_a_while(
    started: list[_Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.runtime import standby

    standbys, now = _standbys("coordination.standby_after=20s"), time.monotonic()
    standbys.tend(["a", "b"])
    monkeypatch.setattr(standby.time, "monotonic", lambda: now + 19.0)
    standbys.tend(["a", "b"])
    assert started == []
    monkeypatch.setattr(standby.time, "monotonic", lambda: now + 21.0)
    standbys.tend(["a", "b"])
    standbys.tend(["a", "b"])
    assert [actor.where for actor in started] == [standby.on_node("a"), standby.on_node("b")]
