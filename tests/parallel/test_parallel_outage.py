"""Storage that refuses a checkpoint: training goes on, and only the last one is needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import DIGITS, MemoryChannel, Stores, plan_of

from orchestrator.errors import StorageError
from orchestrator.job_import import load_job
from orchestrator.parallel import worker as worker_module
from orchestrator.parallel.channel import Note
from orchestrator.parallel.loop import train
from orchestrator.parallel.manifest import CheckpointManifest, verify_checkpoint
from orchestrator.parallel.pace import RETRY_SECONDS, Pace
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.storage import Storage

NewRun = Callable[[], str]


class Refusing(MemoryChannel):
    """Storage refuses the first ``num_refusals`` commits from step ``begins`` on."""

    def __init__(self, run: Storage, begins: int, num_refusals: int) -> None:
        super().__init__(run)
        self.begins, self.left = begins, num_refusals

    def commit(self, manifest: CheckpointManifest) -> None:
        if manifest.step >= self.begins and self.left:
            self.left -= 1
            raise StorageError("cannot write: No space left on device")
        super().commit(manifest)

    def told(self) -> list[Note]:
        return [note for note in self.notes if note.kind == "not-written"]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LAST_WAITS_SECONDS", (0.01,) * 7)


def _train(channel: Refusing, store: str, *more: str) -> TrainResult:
    plan = plan_of(DIGITS, "training.workers=1", "coordination.checkpoint.every=5", *more)
    return train(TrainSetup(plan, load_job(plan), Storage.open(store), channel.run, 1), channel)


@pytest.mark.unit
@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_training_goes_on_without_a_checkpoint_in_between(
    stores: Stores, new_run: NewRun, asynchronous: str
) -> None:
    channel = Refusing(Storage.open(new_run()), begins=10, num_refusals=1)
    result = _train(channel, stores.digits, f"coordination.checkpoint.asynchronous={asynchronous}")
    assert (result.step, result.stopped) == (20, False)
    assert [manifest.step for manifest in channel.manifests] == [5, 15, 20]
    (note,) = channel.told()
    assert "No space left on device; the one before it stays" in note.text
    assert [record.step for record in channel.records] == list(range(1, 21))


@pytest.mark.unit
@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_the_last_one_is_tried_again_as_it_was(
    stores: Stores, new_run: NewRun, asynchronous: str
) -> None:
    channel = Refusing(Storage.open(new_run()), begins=20, num_refusals=3)
    result = _train(channel, stores.digits, f"coordination.checkpoint.asynchronous={asynchronous}")
    assert len(channel.told()) == 3
    last = channel.manifests[-1]
    assert (last.step, last.folder) == (20, result.checkpoint)
    assert last.metrics == result.metrics == channel.evaluations[-1].metrics
    assert verify_checkpoint(channel.run.child(last.folder)).step == 20
    assert sum(record.step == 20 for record in channel.evaluations) == 1


@pytest.mark.unit
def test_without_the_last_one_the_run_has_failed(stores: Stores, new_run: NewRun) -> None:
    channel = Refusing(Storage.open(new_run()), begins=20, num_refusals=99)
    with pytest.raises(StorageError, match="No space left"):
        _train(channel, stores.digits)
    assert [manifest.step for manifest in channel.manifests] == [5, 10, 15]
    assert len(channel.told()) == 8


@pytest.mark.unit
def test_another_is_due_soon_after_one_that_was_not_written(new_run: NewRun) -> None:
    now = [100.0]
    channel = MemoryChannel(Storage.open(new_run()))
    first, other = (Pace(channel, None, is_first, lambda: now[0]) for is_first in (True, False))
    for pace in (first, other):
        assert not pace.due()
        pace.not_written()
    now[0] += RETRY_SECONDS - 0.1
    assert not first.due()
    now[0] += 0.2
    assert first.due()
    assert not other.due(), "one clock decides"
    first.saved(7, 0.1, None)
    assert not first.due()
