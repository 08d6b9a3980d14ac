"""A locked file: one at a time, and a frozen holder does not keep it for ever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.coordinator import events as ev
from orchestrator.errors import Fenced
from orchestrator.observe import journal as journals
from orchestrator.observe.file_lock import exclusive
from orchestrator.observe.journal import Journal, Retention, replay_state, segments
from orchestrator.storage import Storage
from tests.observe.long_run import told

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("remove", [False, True])
def test_only_one_is_inside_at_a_time(tmp_path: Path, remove: bool) -> None:
    path, inside, most, entered = tmp_path / "lock", [0], [0], [0]

    def enter() -> None:
        for _ in range(20):
            with exclusive(path, 30.0, remove=remove):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                entered[0] += 1
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], entered[0]) == (1, 80)
    assert path.exists() is not remove


def test_a_lock_that_is_never_given_back_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, 5.0):
        begin = time.monotonic()
        with exclusive(path, 0.3):
            assert 0.3 <= time.monotonic() - begin < 5.0
    with exclusive(path, 5.0):
        assert path.exists()


def test_holders_that_follow_one_another_are_waited_for_each_anew(tmp_path: Path) -> None:
    """Together they keep it for longer than the patience, none of them does."""
    path, stop = tmp_path / "lock", threading.Event()
    inside: list[str] = []

    def hold() -> None:
        while not stop.is_set():
            with exclusive(path, 30.0):
                inside.append("in")
                time.sleep(0.1)
                inside.append("out")
            time.sleep(random.uniform(0.0, 0.03))  # else whoever has it takes it again at once

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    try:
        for _ in range(3):
            with exclusive(path, 1.5):
                assert inside[-1] == "out", "it came in beside a holder that was alive"
    finally:
        stop.set()
        for thread in threads:
            thread.join(10.0)


FROZEN = """
import os, signal, sys
from orchestrator.coordinator import events as ev
from orchestrator.observe.journal import Journal
from orchestrator.storage import Storage
append = Storage.append
def freeze(self, relative, data):
    print("looked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    append(self, relative, data)
journal = Journal(Storage.open(sys.argv[1]))
state = journal.state()
Storage.append = freeze
journal.append(ev.Progressed(attempt=state.attempt, at_seconds=1.0, done=10**6))
Storage.append = append
print("appended", flush=True)
try:
    journal.append(ev.Progressed(attempt=state.attempt, at_seconds=1.0, done=10**6))
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def test_a_writer_frozen_in_the_middle_of_an_append_is_passed_over_and_fenced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the journal's lock, and writes a line when it wakes up: a later attempt has been
    opened, and the journal compacted."""
    storage = Storage.open(str(tmp_path))
    pairs = list(told(24, 80))
    cut = [n for n in range(3, 75) if pairs[n][0].attempt > pairs[n - 1][0].attempt][-1]
    early = Journal(storage)
    for event, _ in pairs[:cut]:
        early.append(event)
    monkeypatch.setattr(journals, "LOCK_PATIENCE_SECONDS", 0.3)
    with subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as frozen:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == "looked\n"
        before = segments(storage)[-1]
        journal = Journal(storage, Retention(snapshot_every=3))
        journal.state()
        for event, state in pairs[cut:]:
            journal.append(event)
            journal.compact(state)
        frozen.send_signal(signal.SIGCONT)
        assert frozen.stdout.read().split() == ["appended", Fenced.__name__]
    late = next(each for each in segments(storage) if each.key == before.key)
    assert late.size_bytes > before.size_bytes, "the late line was not written"
    reader = Journal(storage)
    assert repr(replay_state(reader)) == repr(pairs[-1][1])
    assert len(list(reader.replay())) == 80
    assert before.path in reader.remarks[0]
    last = ev.StopRequested(attempt=pairs[-1][1].attempt, at_seconds=1.0, by="request")
    journal.append(last)
