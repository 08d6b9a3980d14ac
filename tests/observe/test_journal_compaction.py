"""Compaction: the state and the kept past are the same before, during and after it."""

from __future__ import annotations

import shutil
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import replay
from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError, Fenced, StorageError
from orchestrator.observe.event_lines import checksum, encode_line
from orchestrator.observe.facts import gather_facts
from orchestrator.observe.journal import Journal, Retention, replay_state, segments
from orchestrator.observe.journal_files import list_layout
from orchestrator.observe.journal_snapshot import NewerSnapshot, decode_snapshot, encode_snapshot
from orchestrator.observe.report import render_report
from orchestrator.observe.runs import view_run
from orchestrator.storage import Storage
from tests.observe.long_run import told

pytestmark = pytest.mark.unit

SMALL = Retention(snapshot_every=5, keep_events=15, keep_segments=50)
ALWAYS = Retention(snapshot_every=0)


@pytest.fixture(params=["local", "object"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder with paths and locks, and one that has neither."""
    if request.param == "local":
        return Storage.open(str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    return Storage.on(fs.SubTreeFileSystem(str(tmp_path / "run"), fs.LocalFileSystem()), "")


def in_memory() -> Storage:
    return Storage.on(fs._MockFileSystem(), "run")


def write(storage: Storage, pairs: list[tuple[ev.Event, RunState]], kept: Retention) -> Journal:
    journal = Journal(storage, kept)
    for event, state in pairs:
        journal.append(event)
        journal.compact(state)
    return journal


def whole(storage: Storage) -> tuple[RunState, list[ev.Event]]:
    """All that is kept: the state before it, and the events."""
    return Journal(storage).fold(lambda before, events: (before, list(events)), whole=True)


def check_kept(storage: Storage, pairs: list[tuple[ev.Event, RunState]], least: int) -> None:
    """State and past are those of ``pairs``, of which at least the last ``least`` are there."""
    assert repr(replay_state(Journal(storage))) == repr(pairs[-1][1])
    before, events = whole(storage)
    assert len(events) >= min(least, len(pairs))
    gone = len(pairs) - len(events)
    assert repr(events) == repr([event for event, _ in pairs[gone:]])
    assert repr(before) == repr(pairs[gone - 1][1] if gone else RunState())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 12), st.integers(0, 40))
def test_whatever_is_compacted_state_and_kept_past_are_those_that_were_told(
    seed: int, num_events: int, every: int, keep: int
) -> None:
    storage, pairs = in_memory(), list(told(seed, num_events))
    kept = Retention(snapshot_every=every, keep_events=keep, keep_segments=1_000)
    write(storage, pairs, kept)
    check_kept(storage, pairs, keep)
    layout = list_layout(storage)
    assert len(layout.snapshots) <= 2 + (keep + every - 1) // every, "snapshots are left behind"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_writers_that_follow_one_another_go_on_with_a_compacted_journal(
    seed: int, lives: list[int]
) -> None:
    storage, pairs = in_memory(), list(told(seed, sum(lives)))
    done = 0
    for num_events in lives:
        journal = Journal(storage, SMALL)
        assert repr(replay_state(journal)) == repr(pairs[done - 1][1] if done else RunState())
        for event, state in pairs[done : done + num_events]:
            journal.append(event)
            journal.compact(state)
        done += num_events
        assert journal.num_events == done
    check_kept(storage, pairs, SMALL.keep_events)


def test_a_replay_reads_little_however_long_the_run_was(storage: Storage) -> None:
    pairs = list(told(1, 400))
    write(storage, pairs, SMALL)
    journal = Journal(storage)
    read = journal.fold(lambda _, events: sum(1 for _ in events))
    assert read < SMALL.snapshot_every
    assert journal.num_events == 400
    assert len(whole(storage)[1]) < 15 + 2 * 5
    layout = list_layout(storage)
    assert layout.snapshots[0].closes < layout.segments[0].key


def test_a_run_of_ordinary_length_keeps_its_whole_past(storage: Storage) -> None:
    pairs = list(told(2, 300))
    journal = write(storage, pairs, Retention(snapshot_every=50))
    before, events = whole(storage)
    assert before == RunState()
    assert len(events) == 300
    assert len(list(journal.replay())) == 300
    assert len(list_layout(storage).snapshots) == 6


def test_a_run_of_endless_restarts_does_not_fill_the_folder() -> None:
    storage, pairs = in_memory(), []
    for event, state in told(3, 600):
        pairs.append((event, state))
    write(storage, pairs, Retention(snapshot_every=5, keep_events=10_000, keep_segments=20))
    assert len(segments(storage)) <= 20 + 10
    check_kept(storage, pairs, 1)


def test_a_report_of_a_compacted_run_tells_what_is_kept_and_says_what_is_not(
    tmp_path: Path,
) -> None:
    base, pairs = Storage.open(str(tmp_path)), list(told(4, 90))
    write(base.child("r"), pairs, SMALL)
    facts = gather_facts(base, "r", command="axis run plan.yaml")
    assert repr(facts.state) == repr(pairs[-1][1])
    assert 90 - 30 < facts.num_events_removed <= 90 - 15
    kept = {record.folder for record in facts.state.committed}
    listed = {commit.record.folder for commit in facts.commits if commit.fate == "kept"}
    assert listed == kept
    assert facts.stretches
    said = f"The first {facts.num_events_removed} events of the run are no longer kept"
    assert said in render_report(facts)
    view = view_run(base, "r")
    assert (view.attempt, view.committed_step) == (
        facts.state.attempt,
        facts.state.committed_step,
    )


# --------------------------------------------------------------------- crashes

CALLS = ("write_atomic", "append", "delete", "list", "read_bytes", "exists")


class Crash(BaseException):
    """The process dies here: nothing after it is done, no handler runs."""


class Failing:
    """Fails the ``number``-th call of a method of ``Storage``, before or after it was done."""

    def __init__(
        self, patch: pytest.MonkeyPatch, number: int, done: bool, error: BaseException
    ) -> None:
        self.calls, self.number, self.done, self.error = 0, number, done, error
        for name in CALLS:
            patch.setattr(Storage, name, self._around(getattr(Storage, name)))

    def _around(self, method: Callable[..., object]) -> Callable[..., object]:
        def call(storage: Storage, *args: object, **kwargs: object) -> object:
            self.calls += 1
            hit = self.calls == self.number
            if hit and not self.done:
                raise self.error
            result = method(storage, *args, **kwargs)
            if hit:
                raise self.error
            return result

        return call


def due_journal(storage: Storage) -> tuple[Journal, list[tuple[ev.Event, RunState]]]:
    """A journal for which a compaction is due that has something to remove, and 5 events more."""
    pairs = list(told(5, 60))
    journal = write(storage, pairs[:50], Retention(snapshot_every=5))
    for event, _ in pairs[50:55]:
        journal.append(event)
    return kept_by(journal, SMALL), pairs


def kept_by(journal: Journal, retention: Retention) -> Journal:
    """The same writer, for whom something else is due from now on."""
    journal._retention = retention
    return journal


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["crash", "refuses"])
def test_whichever_call_fails_in_a_compaction_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, done: bool
) -> None:
    error: BaseException = Crash() if how == "crash" else StorageError("unreachable")
    num_calls, removed = 0, 0
    for number in range(1, 200):
        storage = Storage.open(str(tmp_path / f"run-{number}"))
        journal, pairs = due_journal(storage)
        before = list_layout(storage).paths
        with monkeypatch.context() as patch:
            failing = Failing(patch, number, done, error)
            try:
                finished = journal.compact(pairs[54][1])
            except Crash:
                finished = False
        if failing.calls < number:
            assert finished
            break
        num_calls += 1
        removed += bool(before - list_layout(storage).paths)
        assert not finished
        assert (journal.compaction_failure == "unreachable") == (how == "refuses")
        check_kept(storage, pairs[:55], SMALL.keep_events)
        if how == "crash":
            journal = Journal(storage, SMALL)
            journal.state()
        for event, state in pairs[55:]:
            journal.append(event)
            journal.compact(state)
        check_kept(storage, pairs, SMALL.keep_events)
    assert num_calls >= 8, "the compaction did next to nothing"
    assert removed >= 2, "no call was made to fail in the middle of removing"


def test_who_reads_in_the_middle_of_a_compaction_sees_one_whole_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(str(tmp_path / "run"))
    journal, pairs = due_journal(storage)
    moments = [0]

    def looked(method: Callable[..., object]) -> Callable[..., object]:
        def call(at: Storage, *args: object, **kwargs: object) -> object:
            for state in ("before", "after"):
                with monkeypatch.context() as plain:
                    for name, original in originals.items():
                        plain.setattr(Storage, name, original)
                    copy = tmp_path / f"copy-{moments[0]}"
                    moments[0] += 1
                    shutil.copytree(tmp_path / "run", copy)
                    check_kept(Storage.open(str(copy)), pairs[:55], SMALL.keep_events)
                if state == "before":
                    result = method(at, *args, **kwargs)
            return result

        return call

    originals = {name: getattr(Storage, name) for name in ("write_atomic", "delete")}
    with monkeypatch.context() as patch:
        for name, original in originals.items():
            patch.setattr(Storage, name, looked(original))
        assert journal.compact(pairs[54][1])
    assert moments[0] >= 6


def test_a_reader_beside_a_writer_that_compacts_all_the_time(storage: Storage) -> None:
    pairs = list(told(7, 1_500))
    states = [repr(RunState()), *(repr(state) for _, state in pairs)]
    ended = threading.Event()
    failures: list[BaseException] = []
    seen = [0, 0]

    def look() -> None:
        while not ended.is_set():
            try:
                state = replay_state(Journal(storage))
                assert repr(state) == states[state.num_events]
                before, events = whole(storage)
                count = before.num_events + len(events)
                assert repr(replay(events, before)) == states[count]
                seen[:] = [seen[0] + 1, count]
            except BaseException as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    kept = Retention(snapshot_every=3, keep_events=6)
    journal, deadline = Journal(storage, kept), time.monotonic() + 5.0
    for event, state in pairs:
        journal.append(event)
        journal.compact(state)
        if time.monotonic() > deadline:
            break
    ended.set()
    for reader in readers:
        reader.join()
    assert not failures, failures
    assert seen[0] > 5
    assert seen[1] > 5


# --------------------------------------------------------------------- damage


def damage(storage: Storage, path: str) -> None:
    content = bytearray(storage.read_bytes(path))
    content[len(content) // 2] ^= 1
    storage.write_atomic(path, bytes(content))


def test_a_damaged_snapshot_gives_way_to_the_one_before(storage: Storage) -> None:
    pairs = list(told(11, 60))
    write(storage, pairs, SMALL)
    newest = list_layout(storage).snapshots[-1].path
    damage(storage, newest)
    check_kept(storage, pairs, SMALL.keep_events)
    journal = Journal(storage, SMALL)
    journal.state()
    assert newest in journal.remarks[0]
    more = list(told(11, 90))
    for event, state in more[60:]:
        journal.append(event)
        journal.compact(state)
    check_kept(storage, more, SMALL.keep_events)


def test_where_all_snapshots_are_damaged_the_events_are_read_if_they_are_there(
    storage: Storage,
) -> None:
    pairs = list(told(12, 60))
    write(storage, pairs, Retention(snapshot_every=5))
    for snapshot in list_layout(storage).snapshots:
        damage(storage, snapshot.path)
    check_kept(storage, pairs, 60)


def test_where_snapshots_and_events_are_gone_that_is_said(storage: Storage) -> None:
    write(storage, list(told(13, 60)), SMALL)
    for snapshot in list_layout(storage).snapshots:
        damage(storage, snapshot.path)
    newest = list_layout(storage).snapshots[-1].path
    with pytest.raises(DamagedError, match=newest) as caught:
        replay_state(Journal(storage))
    assert "events before it are gone (events from " in str(caught.value)
    with pytest.raises(DamagedError, match="events before it are gone"):
        whole(storage)


def test_a_damaged_base_is_not_built_upon(storage: Storage) -> None:
    """What is before a snapshot is removed only if that snapshot can be read."""
    pairs = list(told(14, 60))
    journal = write(storage, pairs[:40], SMALL)
    for snapshot in list_layout(storage).snapshots[:-1]:
        damage(storage, snapshot.path)
    for event, state in pairs[40:44]:
        journal.append(event)
        journal.compact(state)
    before = list_layout(storage).snapshots[0].path
    journal.append(pairs[44][0])
    assert journal.compact(pairs[44][1])
    assert list_layout(storage).snapshots[0].path == before


def test_a_missing_segment_after_a_snapshot_is_noticed(storage: Storage) -> None:
    pairs = list(told(15, 63))
    write(storage, pairs, SMALL)
    storage.delete(segments(storage)[-3].path)
    with pytest.raises(DamagedError, match="events are missing"):
        whole(storage)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"phase":', b'"mood":"bad","phase":', "mood: Unexpected keyword"),
        (b'"since":', b'"until":1,"since":', "wait.until: Unexpected keyword"),
        (b'{"snapshot":1,', b'{"snapshot":2,', "format 2; this version reads 1"),
    ],
)
def test_a_snapshot_of_a_newer_version_is_refused_by_name(
    old: bytes, new: bytes, said: str
) -> None:
    storage, pairs = in_memory(), list(told(16, 30))
    write(storage, pairs, SMALL)
    newest = list_layout(storage).snapshots[-1]
    state = decode_snapshot(storage.read_bytes(newest.path), newest.num_events)
    changed = resealed(storage.read_bytes(newest.path), old, new, newest.num_events)
    assert state.wait is not None
    storage.write_atomic(newest.path, changed)
    with pytest.raises(NewerSnapshot, match=said) as caught:
        replay_state(Journal(storage))
    assert newest.path in str(caught.value)


def resealed(data: bytes, old: bytes, new: bytes, num_events: int) -> bytes:
    """The snapshot with ``old`` replaced, and a checksum that fits."""
    head, _, body = data.rstrip(b"\n").replace(old, new, 1).partition(b',"state":')
    seal = b"%08x" % checksum(num_events, body[:-1])
    before, mark, _ = head.partition(b'"crc32":"')
    return before + mark + seal + b'","state":' + body + b"\n"


def test_a_snapshot_of_an_earlier_version_has_defaults_for_what_it_lacks() -> None:
    state = list(told(17, 30))[-1][1]
    data = encode_snapshot(state, 30).replace(b'"micro_batch":null,', b"", 1)
    assert b'"micro_batch":' not in data
    assert repr(decode_snapshot(resealed(data, b"", b"", 30), 30)) == repr(state)


def test_a_snapshot_holds_every_field_of_the_state(storage: Storage) -> None:
    for event, state in told(18, 200):
        assert event is not None
        assert repr(decode_snapshot(encode_snapshot(state, 9), 9)) == repr(state)


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_in_a_snapshot_is_noticed(place: int, bit: int) -> None:
    data = bytearray(encode_snapshot(SOME_STATE, 30))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(DamagedError):
        decode_snapshot(bytes(data), 30)


SOME_STATE = list(told(19, 30))[-1][1]


# --------------------------------------------------------------------- fences


def test_a_writer_that_another_compacted_under_is_fenced(storage: Storage) -> None:
    pairs = list(told(21, 41))
    stale = write(storage, pairs[:39], Retention(snapshot_every=1_000))
    stale.state()
    rival = Journal(storage, SMALL)
    rival.state()
    assert rival.compact(pairs[38][1])
    with pytest.raises(Fenced, match="has compacted the journal"):
        stale.append(pairs[39][0])
    with pytest.raises(Fenced, match="has compacted the journal"):
        kept_by(stale, SMALL).compact(pairs[38][1])
    rival.append(pairs[39][0])
    check_kept(storage, pairs[:40], 15)


def test_a_writer_of_an_earlier_attempt_neither_writes_nor_compacts(storage: Storage) -> None:
    pairs = list(told(22, 60))
    stale = write(storage, pairs[:30], SMALL)
    attempt = pairs[29][1].attempt
    rival = Journal(storage, SMALL)
    state = rival.state()
    opened = next(event for event, _ in pairs if isinstance(event, ev.Opened))
    taken = replace(opened, attempt=attempt + 1)
    rival.append(taken)
    for count in range(20):
        progress = ev.GangTimedOut(attempt=attempt + 1, at_seconds=1.0, message=str(count))
        rival.append(progress)
        state = replay([taken, progress], state) if count == 0 else replay([progress], state)
    rival_state = Journal(storage, SMALL).state()
    late = ev.Progressed(attempt=attempt, at_seconds=1.0, done=1)
    with pytest.raises(Fenced, match=f"attempt {attempt} is fenced"):
        stale.append(late)
    again = Journal(storage, SMALL)
    assert again.compact(again.state())
    with pytest.raises(Fenced):
        stale.append(late)
    with pytest.raises(Fenced):
        kept_by(stale, ALWAYS).compact(pairs[29][1])
    assert repr(replay_state(Journal(storage))) == repr(rival_state)


def test_the_state_of_another_event_is_never_written_down(storage: Storage) -> None:
    pairs = list(told(23, 20))
    journal = write(storage, pairs[:10], Retention(snapshot_every=1_000))
    with pytest.raises(ValueError, match="after 9 accepted events, the journal holds 10"):
        kept_by(journal, ALWAYS).compact(pairs[8][1])
    assert list_layout(storage).snapshots == ()


@pytest.mark.parametrize("by", ["attempt", "snapshot"])
def test_a_line_that_a_frozen_writer_adds_after_it_was_fenced_does_not_count(
    storage: Storage, by: str
) -> None:
    """It looked before it was frozen, and wrote when it woke up: meanwhile another has opened an
    attempt, or compacted and gone on."""
    pairs = list(told(24, 80))
    turns = [n for n in range(3, 75) if pairs[n][0].attempt > pairs[n - 1][0].attempt]
    cut = turns[-1] if by == "attempt" else turns[-1] - 1
    journal = write(storage, pairs[:cut], Retention(snapshot_every=1_000))
    if by == "snapshot":
        assert kept_by(journal, ALWAYS).compact(pairs[cut - 1][1])
        kept_by(journal, Retention())
    frozen = segments(storage)[-1].path
    late = ev.Progressed(attempt=pairs[cut - 1][0].attempt, at_seconds=9.0, done=10**6)
    for count, (event, _) in enumerate(pairs[cut:]):
        journal.append(event)
        if count == 1:
            assert segments(storage)[-1].path != frozen
            data = storage.read_bytes(frozen)
            storage.write_atomic(frozen, data + encode_line(late, cut + 1))
    check_kept(storage, pairs, 80)
    reader = Journal(storage)
    assert len(list(reader.replay())) == 80
    assert reader.remarks == (
        f"{storage.name}/{frozen}: 1 lines of a writer that was fenced already",
    )


def test_a_late_line_in_the_segment_that_is_still_written_is_passed_over(storage: Storage) -> None:
    pairs = list(told(25, 9))
    write(storage, pairs[:8], Retention())
    late = ev.Progressed(attempt=pairs[7][1].attempt, at_seconds=9.0, done=10**6)
    storage.append(segments(storage)[-1].path, encode_line(late, 8))
    journal = Journal(storage)
    assert repr(journal.state()) == repr(pairs[7][1])
    assert "1 lines of a writer that was fenced already" in journal.remarks[0]
    journal.append(pairs[8][0])
    check_kept(storage, pairs, 9)


# --------------------------------------------------------------------- full disks


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_append_that_fails_leaves_the_journal_as_it_was(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Whatever part of the line there is afterwards, in an old segment or a new one."""
    pairs = list(told(26, 60))
    journal = Journal(storage, SMALL)
    append = Storage.append

    def part(self: Storage, relative: str, data: bytes) -> None:
        if share:
            append(self, relative, data[: int(share * len(data))])
        raise StorageError("no space left on device")

    for event, state in pairs:
        with monkeypatch.context() as patched:
            patched.setattr(Storage, "append", part)
            for _ in range(2):
                with pytest.raises(StorageError, match="no space"):
                    journal.append(event)
        journal.append(event)
        journal.compact(state)
    check_kept(storage, pairs, SMALL.keep_events)


def test_after_a_new_attempt_could_not_be_opened_the_old_one_goes_on(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list(told(27, 8))
    journal = write(storage, pairs, Retention())
    attempt = pairs[-1][1].attempt
    append = Storage.append

    def half(self: Storage, relative: str, data: bytes) -> None:
        append(self, relative, data[: len(data) // 2])
        raise StorageError("no space left on device")

    first = pairs[0][0]
    assert isinstance(first, ev.Opened)
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "append", half)
        with pytest.raises(StorageError):
            journal.append(replace(first, attempt=attempt + 1))
    journal.append(ev.Progressed(attempt=attempt, at_seconds=3.0, done=5))
    assert [segment.attempt for segment in segments(storage)] == list(range(1, attempt + 1))
    journal.append(replace(first, attempt=attempt + 1))
    assert replay_state(Journal(storage)).attempt == attempt + 1


# --------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_length_of_a_segment(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    pairs = list(told(28, 4))
    write(storage, pairs, Retention())
    attempt = pairs[-1][1].attempt
    path = segments(storage)[-1].path

    def lines() -> Iterator[bytes]:
        for seq in range(5, 60_000):
            yield encode_line(ev.Progressed(attempt=attempt, at_seconds=2.0, done=seq), seq)

    storage.append(path, b"".join(lines()))
    assert segments(storage)[-1].size_bytes > 5_000_000
    tracemalloc.start()
    try:
        state = replay_state(Journal(storage))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert state.step == 59_999
    assert peak_bytes < 4_500_000  # a block of 1 MiB, its lines, and the line that ends it
