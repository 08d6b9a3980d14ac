"""The journal: torn tails, damage, fences, and the state it gives back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import replay
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.state import CheckpointRecord
from orchestrator.errors import DamagedError, Fenced, StorageError
from orchestrator.observe.journal import Journal, replay_state, segments
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

POLICY = RunPolicy(
    steps=10,
    workers=(2, 1),
    restarts={"worker": 1},
    keep=2,
    gang_timeout_seconds=1.0,
    start_timeout_seconds=1.0,
    stop_timeout_seconds=1.0,
)


def opened(attempt: int) -> ev.Opened:
    return ev.Opened(attempt=attempt, at_seconds=1.0, name="r", policy=POLICY)


def progressed(attempt: int, done: int = 0) -> ev.Progressed:
    return ev.Progressed(attempt=attempt, at_seconds=2.0, done=done)


def some_events() -> list[ev.Event]:
    record = CheckpointRecord(step=5, attempt=2, folder="c", metrics={"val_loss": float("nan")})
    return [
        opened(1),
        ev.GangPlaced(attempt=1, at_seconds=2.0, workers=2),
        opened(2),
        ev.GangPlaced(attempt=2, at_seconds=3.0, workers=1),
        ev.CheckpointCommitted(attempt=2, at_seconds=4.0, checkpoint=record),
        ev.StopRequested(attempt=2, at_seconds=5.0, by="ctrl-c"),
    ]


def written(storage: Storage, events: list[ev.Event]) -> Journal:
    journal = Journal(storage)
    for event in events:
        journal.append(event)
    return journal


def read(storage: Storage) -> list[ev.Event]:
    return list(Journal(storage).replay())


@pytest.fixture(params=["local", "object"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder with paths and locks, and one that has neither."""
    if request.param == "local":
        return Storage.open(str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    return Storage.on(fs.SubTreeFileSystem(str(tmp_path / "run"), fs.LocalFileSystem()), "")


def test_what_is_appended_is_read_back_in_order(storage: Storage) -> None:
    events = some_events()
    journal = written(storage, events)
    assert repr(read(storage)) == repr(events)
    assert journal.num_events == len(events)
    assert [segment.attempt for segment in segments(storage)] == [1, 2]


def test_a_journal_that_was_never_written_is_empty(storage: Storage) -> None:
    assert read(storage) == []
    assert replay_state(Journal(storage)).phase == "new"


def test_the_state_is_the_fold_of_the_journal(storage: Storage) -> None:
    events = some_events()
    written(storage, events)
    assert repr(replay_state(Journal(storage))) == repr(replay(events))


def test_a_writer_goes_on_where_another_process_stopped(storage: Storage) -> None:
    events = some_events()
    for event in events:
        Journal(storage).append(event)
    assert repr(read(storage)) == repr(events)


def test_cut_off_at_any_byte_of_the_last_line_only_that_event_is_gone(tmp_path: Path) -> None:
    events = some_events()[2:]
    whole = Storage.open(str(tmp_path / "whole"))
    attempt_one = [opened(1)]
    written(whole, attempt_one + events)
    path = "journal/attempt-0002.jsonl"
    data = whole.read_bytes(path)
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(data)):
        storage = Storage.open(str(tmp_path / f"cut-{cut}"))
        storage.write_atomic(
            "journal/attempt-0001.jsonl", whole.read_bytes("journal/attempt-0001.jsonl")
        )
        storage.write_atomic(path, data[:cut])
        journal = Journal(storage)
        assert repr(list(journal.replay())) == repr(attempt_one + events[:-1])
        assert len(journal.torn) == (cut > last)
        journal.append(events[-1])
        assert storage.read_bytes(path) == data
        assert journal.torn == () or path in journal.torn[0]


def test_a_segment_whose_first_line_is_torn_can_be_opened_again(storage: Storage) -> None:
    written(storage, [opened(1)])
    storage.write_atomic("journal/attempt-0002.jsonl", b'{"seq":2,"crc')
    Journal(storage).append(opened(2))
    assert read(storage) == [opened(1), opened(2)]


def test_a_torn_tail_of_an_earlier_attempt_is_reported_and_passed_over(storage: Storage) -> None:
    written(storage, [opened(1)])
    storage.append("journal/attempt-0001.jsonl", b'{"seq":2,')
    journal = Journal(storage)
    journal.append(opened(2))
    assert read(storage) == [opened(1), opened(2)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_a_whole_line_is_named_never_swallowed(data: st.DataObject) -> None:
    filesystem = fs.SubTreeFileSystem("", fs._MockFileSystem())
    storage = Storage.on(filesystem, "run")
    events = some_events()
    written(storage, events)
    path = data.draw(st.sampled_from([segment.path for segment in segments(storage)]))
    content = bytearray(storage.read_bytes(path))
    place = data.draw(st.integers(0, len(content) - 2))  # but for the newline that ends it
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    storage.write_atomic(path, bytes(content))
    with pytest.raises(DamagedError, match=r"journal/attempt-\d{4}\.jsonl:\d+: "):
        read(storage)


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_line_is_noticed(storage: Storage, which: int) -> None:
    written(storage, [opened(1), progressed(1), progressed(1), opened(2)])
    lines = storage.read_bytes("journal/attempt-0001.jsonl").splitlines(keepends=True)
    del lines[which]
    storage.write_atomic("journal/attempt-0001.jsonl", b"".join(lines))
    with pytest.raises(DamagedError, match="events are missing"):
        read(storage)


def test_a_missing_segment_is_noticed(storage: Storage) -> None:
    written(storage, [opened(1), opened(2)])
    storage.delete("journal/attempt-0001.jsonl")
    with pytest.raises(DamagedError, match="events are missing"):
        read(storage)


def test_a_damaged_journal_is_never_appended_to(storage: Storage) -> None:
    written(storage, [opened(1), progressed(1)])
    content = storage.read_bytes("journal/attempt-0001.jsonl")
    storage.write_atomic("journal/attempt-0001.jsonl", content.replace(b"opened", b"opemed"))
    with pytest.raises(DamagedError):
        Journal(storage).append(progressed(1))


def test_an_earlier_attempt_cannot_write(storage: Storage) -> None:
    stale = written(storage, [opened(1)])
    Journal(storage).append(opened(2))
    with pytest.raises(Fenced, match="attempt 2 was opened"):
        stale.append(progressed(1))
    assert read(storage) == [opened(1), opened(2)]


def test_two_coordinators_cannot_open_the_same_attempt(storage: Storage) -> None:
    written(storage, [opened(1)])
    first, second = Journal(storage), Journal(storage)
    assert len(list(first.replay())) == len(list(second.replay())) == 1
    first.append(opened(2))
    with pytest.raises(Fenced, match="opened attempt 2"):
        second.append(opened(2))
    with pytest.raises(Fenced, match="opened before"):
        first.append(opened(2))


def test_a_second_writer_of_the_same_attempt_is_noticed(storage: Storage) -> None:
    first = written(storage, [opened(1)])
    Journal(storage).append(progressed(1))
    with pytest.raises(Fenced, match="has written"):
        first.append(progressed(1))


def test_after_a_full_disk_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(str(tmp_path))
    journal = written(storage, [opened(1)])
    append = Storage.append

    def half(self: Storage, relative: str, data: bytes) -> None:
        append(self, relative, data[: len(data) // 2])
        raise StorageError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "append", half)
        with pytest.raises(StorageError, match="no space"):
            journal.append(progressed(1, 1))
    assert read(storage) == [opened(1)]
    journal.append(progressed(1, 2))
    assert read(storage) == [opened(1), progressed(1, 2)]


def test_a_writer_killed_at_any_time_leaves_a_journal_that_goes_on(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from orchestrator.coordinator import events as ev\n"
        "from orchestrator.observe.journal import Journal\n"
        "from orchestrator.storage import Storage\n"
        "journal = Journal(Storage.open(sys.argv[1]))\n"
        "for done in range(10**6):\n"
        "    journal.append(ev.Progressed(attempt=1, at_seconds=0.0, done=done))\n"
        "    print(done, flush=True)\n"
    )
    storage = Storage.open(str(tmp_path))
    written(storage, [opened(1)])
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=environment,
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.kill()
        confirmed = 1 + len(writer.stdout.read().splitlines())
    events = read(storage)
    assert confirmed >= 2, "the writer was killed before it wrote anything"
    assert len(events) - 1 in (confirmed, confirmed + 1)
    Journal(storage).append(opened(2))
    assert len(read(storage)) == len(events) + 1


def test_a_long_journal_is_read_at_speed(tmp_path: Path) -> None:
    """A million events in 20 s is the goal; a twentieth of it here, with room for a slow day."""
    storage = Storage.on(fs._MockFileSystem(), "run")
    num_events = 50_000
    written(storage, [opened(1)])
    one = storage.read_bytes("journal/attempt-0001.jsonl")
    from orchestrator.observe import event_lines as module

    lines = [module.encode_line(progressed(1, seq), seq) for seq in range(2, num_events + 1)]
    storage.write_atomic("journal/attempt-0001.jsonl", one + b"".join(lines))
    start = time.perf_counter()
    journal = Journal(storage)
    replay_state(journal)
    assert journal.num_events == num_events
    assert time.perf_counter() - start < 5.0
