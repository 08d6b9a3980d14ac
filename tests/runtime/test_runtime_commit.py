"""How a checkpoint comes to exist through the coordinator, and how a channel sends before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.coordinator import events as ev
from orchestrator.errors import DeadlineExceeded, Fenced, StorageError
from orchestrator.observe.journal import Journal
from orchestrator.parallel.channel import EvalRecord, Own
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.parallel.upkeep import damage_of, list_checkpoints
from orchestrator.runtime.channel import ActorChannel
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.messages import Directive, RunRef
from orchestrator.runtime.watch import Watch
from orchestrator.storage import Storage
from tests.observe.past_run import POLICY, STORE

pytestmark = pytest.mark.unit


def manifest_of(step: int, attempt: int = 1) -> CheckpointManifest:
    return CheckpointManifest(
        step=step, attempt=attempt, consumed=0, seed=0, plan_hash="", store_hash="", mesh={},
        metrics={"val_loss": 1.0},
    )  # fmt: skip


class Opened:
    """A run in training, as the coordinator holds it; no Ray involved."""

    def __init__(self, folder: Path) -> None:
        self.ref = RunRef("little", str(folder))
        self.run = Storage.open(str(folder))
        self.coordinator = Coordinator()
        first = ev.Opened(
            attempt=0, at_seconds=0.0, name="little", policy=POLICY, plan_hash="", holder=""
        )
        self.coordinator.open(self.ref, first)
        self.tell(ev.GangPlaced, workers=2)
        self.tell(ev.StoreReady, store=STORE)

    def tell(self, kind: type[Any], **details: Any) -> Any:
        return self.coordinator.tell(self.ref, kind(attempt=1, at_seconds=0.0, **details))

    def commit(self, manifest: CheckpointManifest) -> None:
        self.coordinator.commit(self.ref, manifest)

    def events(self, kind: type[Any]) -> list[Any]:
        return [event for event in Journal(self.run).replay() if isinstance(event, kind)]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    # Its watch would ask Ray which nodes are drained.
    monkeypatch.setattr(Watch, "start", lambda _self: None)
    return Opened(tmp_path)


def test_a_commit_whose_reply_was_lost_is_made_again_in_peace(opened: Opened) -> None:
    for _ in range(2):
        opened.commit(manifest_of(10))
    assert list_checkpoints(opened.run) == [manifest_of(10).folder]
    assert len(opened.events(ev.CheckpointCommitted)) == 1


@pytest.mark.parametrize("manifest", [manifest_of(10), manifest_of(20, attempt=2)])
def test_what_contradicts_the_journal_is_fenced_and_leaves_no_manifest(
    opened: Opened, manifest: CheckpointManifest
) -> None:
    opened.commit(manifest_of(15))
    with pytest.raises(Fenced):
        opened.commit(manifest)
    assert list_checkpoints(opened.run) == [manifest_of(15).folder]


def test_what_the_journal_could_not_be_told_does_not_exist(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot append to the journal: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(StorageError, match="No space left"):
            opened.commit(manifest_of(10))
    assert list_checkpoints(opened.run) == []
    opened.commit(manifest_of(10))
    assert list_checkpoints(opened.run) == [manifest_of(10).folder]


def test_a_damaged_checkpoint_is_marked_with_its_reason(opened: Opened) -> None:
    for step in (10, 20):
        opened.commit(manifest_of(step))
    folder = manifest_of(20).folder
    reply = opened.tell(ev.CheckpointDamaged, folder=folder, reason="a flipped bit")
    assert reply.state.newest.step == 10
    assert damage_of(opened.run, folder) == "a flipped bit"
    assert list_checkpoints(opened.run) == [manifest_of(10).folder]
    opened.tell(ev.CheckpointDamaged, folder="checkpoints/nobodys", reason="who knows")
    assert not opened.run.exists("checkpoints/nobodys"), "ignored events mark nothing"


class Wire:
    """Takes what a channel sends, when it is let; a call may fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.failures: list[Exception] = []
        self.calls: list[list[int]] = []
        self.commits: list[int] = []

    def call(self, method: str, *arguments: Any) -> Any:
        assert self.open.wait(20)
        if self.failures:
            raise self.failures.pop()
        if method == "commit":
            self.commits.append(arguments[0].step)
            return None
        records: Sequence[dict[str, Any]] = arguments[1]
        self.calls.append([record["step"] for record in records])
        return Directive()

    @property
    def steps(self) -> list[int]:
        return [step for call in self.calls for step in call]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def channel(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActorChannel]:
    """One whose own thread sends nothing, so that what is sent is what is flushed."""
    monkeypatch.setattr("orchestrator.runtime.channel._INTERVAL_SECONDS", 1000.0)
    made = ActorChannel(wire, 1, 0, log_samples=True)  # type: ignore[arg-type]
    yield made
    wire.open.set()
    made.close()


def put(channel: ActorChannel, step: int) -> None:
    channel.evaluated(EvalRecord(step, {}, 1, 0.0))


def test_a_flush_ends_while_steps_go_on(channel: ActorChannel, wire: Wire) -> None:
    """A checkpoint is committed from a thread of its own, and steps may be faster than calls."""
    done = threading.Event()

    def report() -> None:
        step = 0
        while not done.is_set():
            step += 1
            put(channel, step)

    thread = threading.Thread(target=report)
    thread.start()
    while not channel._outbox:
        time.sleep(0.001)
    before = len(channel._outbox)
    began = time.monotonic()
    channel.saving()
    took = time.monotonic() - began
    done.set()
    thread.join()
    assert took < 5
    assert len(wire.steps) >= before
    channel.saving()
    assert wire.steps == list(range(1, len(wire.steps) + 1)), "in order, each once"


def test_a_commit_follows_what_led_to_it(channel: ActorChannel, wire: Wire) -> None:
    for step in (1, 2, 3):
        put(channel, step)
    channel.commit(manifest_of(3))
    assert (wire.steps, wire.commits) == ([1, 2, 3], [3])


def test_what_another_thread_has_under_way_is_waited_for(channel: ActorChannel, wire: Wire) -> None:
    put(channel, 1)
    wire.open.clear()
    first = threading.Thread(target=channel._send)
    first.start()
    while channel._outbox:
        time.sleep(0.001)
    second = threading.Thread(target=channel.saving)
    second.start()
    second.join(0.2)
    assert second.is_alive(), "record 1 has not arrived"
    wire.open.set()
    second.join(10)
    first.join(10)
    assert wire.steps == [1]


def test_what_failed_to_arrive_is_sent_again_before_a_flush_ends(
    channel: ActorChannel, wire: Wire
) -> None:
    put(channel, 1)
    wire.open.clear()
    wire.failures = [ray.exceptions.RaySystemError("the connection was reset")]
    outcome: list[Callable[[], None] | Exception] = []

    def send() -> None:
        try:
            channel._send()
        except Exception as error:
            outcome.append(error)

    first = threading.Thread(target=send)
    first.start()
    while channel._outbox:
        time.sleep(0.001)
    second = threading.Thread(target=channel.saving)
    second.start()
    wire.open.set()
    second.join(10)
    first.join(10)
    assert len(outcome) == 1
    assert wire.steps == [1]


def test_a_flush_has_a_deadline(
    channel: ActorChannel, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.runtime.channel._COMMIT_TIMEOUT_SECONDS", 0.5)
    put(channel, 1)
    wire.failures = [ray.exceptions.RaySystemError("gone") for _ in range(100)]
    with pytest.raises(DeadlineExceeded, match=r"1 records did not reach the coordinator"):
        channel.saving()
    wire.failures.clear()


def test_what_steps_took_goes_with_the_next_report_and_is_not_kept(
    channel: ActorChannel, wire: Wire
) -> None:
    """It is of use at once or not at all: what was not sent must not pile up, nor hold up a
    commit."""
    put(channel, 1)
    channel.worked(7, 1.0, Own(0.5, 0.0), 0.1)
    wire.failures = [ray.exceptions.RaySystemError("the connection was reset")]
    with pytest.raises(ray.exceptions.RaySystemError):
        channel._send()
    channel.worked(8, 1.0, None, 0.0)
    channel._send()
    assert wire.calls == [[1, 8]]
    for step in range(10_000):
        channel.worked(step, 1.0, Own(0.5, 0.0), 0.0)
    channel._send()
    assert len(wire.calls[1]) < 1000
    assert wire.calls[1][-1] == 9999


def test_an_order_to_leave_is_heard_until_it_is_taken_back(
    channel: ActorChannel, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not channel.leave_at_checkpoint()
    for wanted in (True, False):
        monkeypatch.setattr(
            wire, "call", lambda *_, wanted=wanted: Directive(leave_at_checkpoint=wanted)
        )
        channel._send()
        assert channel.leave_at_checkpoint() is wanted
        assert not channel.stop_requested()
