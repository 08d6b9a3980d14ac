"""What ``axis ls`` and ``axis status`` read from storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.coordinator import events as ev
from orchestrator.errors import RunHeld, StorageError
from orchestrator.observe.lease import RunLease
from orchestrator.observe.runs import list_runs, set_aside, view_run
from orchestrator.storage import Storage
from tests.observe.past_run import PastRun, whole_run

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "runs"))


def test_a_run_that_is_done(storage: Storage) -> None:
    whole_run(storage)
    view = view_run(storage, "gpt")
    assert (view.status, view.phase, view.exit_code) == ("done", "ended", 0)
    assert (view.attempt, view.num_restarts) == (2, 1)
    assert (view.step, view.steps, view.committed_step) == (200, 200, 200)
    assert (view.best_metric, view.best) == ("val_loss", 3.21)
    assert view.promoted == "checkpoints/step-00000200-attempt-0002"
    assert view.last_loss == pytest.approx(5.6 * 0.99**200 + 0.5)
    assert view.url is None
    assert view.size_bytes > 1000
    assert not view.live
    assert not view.resumable
    assert json.loads(json.dumps(view.to_dict()))["name"] == "gpt"


def test_a_run_whose_driver_is_gone_is_lost_and_resumable(storage: Storage) -> None:
    run = PastRun(storage, "gpt")
    run.open()
    run.to_training()
    run.commit(50, 5.0)
    with RunLease.acquire(run.storage, "gpt"):
        view = view_run(storage, "gpt")
        assert (view.status, view.live, view.resumable) == ("running", True, False)
        assert view.holder is not None
        assert json.loads(json.dumps(view.to_dict()))["holder"]["pid"] == view.holder.pid
    view = view_run(storage, "gpt")
    assert (view.status, view.live, view.resumable) == ("lost", False, True)
    assert (view.phase, view.step) == ("training", 50)


@pytest.mark.parametrize(("by", "code"), [("ctrl-c", 130), ("request", 6)])
def test_a_stopped_run_is_resumable(storage: Storage, by: str, code: int) -> None:
    run = PastRun(storage, "gpt")
    run.open()
    run.tell(ev.StopRequested, by=by)
    run.tell(ev.TornDown)
    view = view_run(storage, "gpt")
    assert (view.status, view.exit_code, view.resumable) == ("interrupted", code, True)


def test_runs_are_listed_and_stores_are_not(storage: Storage) -> None:
    whole_run(storage, "b")
    PastRun(storage, "a").open()
    storage.write_atomic("stores/5f2c/manifest.json", b"{}")
    with RunLease.acquire(storage.child("starting"), "starting"):
        views = list_runs(storage)
    assert [(view.name, view.status) for view in views] == [
        ("a", "lost"),
        ("b", "done"),
        ("starting", "running"),
    ]
    assert [view.name for view in list_runs(storage)] == ["a", "b"]


def test_a_damaged_run_is_shown_as_such_and_hides_no_other(storage: Storage) -> None:
    run = whole_run(storage, "broken")
    whole_run(storage, "fine")
    path = "journal/attempt-0001.jsonl"
    run.storage.write_atomic(path, run.storage.read_bytes(path).replace(b"workers", b"workens"))
    broken, fine = list_runs(storage)
    assert (broken.status, fine.status) == ("damaged", "done")
    assert "attempt-0001.jsonl:1" in broken.problem


def test_a_run_that_is_not_there_is_named_with_those_that_are(storage: Storage) -> None:
    whole_run(storage, "gpt")
    with pytest.raises(StorageError, match=r"there is no run gtp in .*; runs there: gpt"):
        view_run(storage, "gtp")
    assert list_runs(Storage.open("nowhere", Path("/nonexistent"))) == ()


def test_an_earlier_run_is_moved_aside_whole(storage: Storage) -> None:
    run = whole_run(storage)
    run.storage.write_atomic("plan.yaml", b"name: gpt")
    first = set_aside(storage, "gpt")
    assert first is not None
    assert first.startswith("gpt.aside-2")
    assert storage.child(first).read_bytes("plan.yaml") == b"name: gpt"
    whole_run(storage)
    second = set_aside(storage, "gpt")
    assert second is not None
    assert second != first
    views = list_runs(storage)
    assert [(view.aside, view.status, view.resumable) for view in views] == [
        (True, "done", False),
        (True, "done", False),
    ]
    assert set_aside(storage, "gpt") is None


def test_a_run_that_is_going_is_not_moved(storage: Storage) -> None:
    run = whole_run(storage)
    with RunLease.acquire(run.storage, "gpt") as lease:
        with pytest.raises(RunHeld):
            set_aside(storage, "gpt")
        assert storage.exists("gpt/journal")
        aside = set_aside(storage, "gpt", lease)
    assert aside is not None
    assert not storage.exists("gpt")
    with RunLease.acquire(storage.child("gpt"), "gpt"):
        assert set_aside(storage, "other") is None


def test_a_folder_with_nothing_but_a_lease_is_not_worth_moving(storage: Storage) -> None:
    with RunLease.acquire(storage.child("gpt"), "gpt") as lease:
        assert set_aside(storage, "gpt", lease) is None
