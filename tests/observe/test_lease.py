"""Who may carry a run out: real processes, killed without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from pyarrow import fs

from orchestrator.errors import Fenced, RunHeld, StorageError
from orchestrator.observe.lease import (
    Holder,
    RunLease,
    clear_stop,
    peek,
    request_stop,
    stop_requested,
)
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

PERIOD_SECONDS = 1.0

PROGRAM = """
import sys, time
from pyarrow import fs
from orchestrator.observe.lease import RunLease
from orchestrator.storage import Storage
kind, path, period = sys.argv[1], sys.argv[2], float(sys.argv[3])
if kind == "local":
    storage = Storage.open(path)
else:
    storage = Storage.on(fs.SubTreeFileSystem(path, fs.LocalFileSystem()), "")
with RunLease.acquire(storage, "r", period_seconds=period) as lease:
    print("held", flush=True)
    while not lease.lost:
        time.sleep(0.02)
    try:
        lease.check()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    time.sleep(60)
"""


def open_storage(kind: str, path: Path) -> Storage:
    path.mkdir(exist_ok=True)
    if kind == "local":
        return Storage.open(str(path))
    return Storage.on(fs.SubTreeFileSystem(str(path), fs.LocalFileSystem()), "")


@pytest.fixture(params=["local", "object"])
def kind(request: pytest.FixtureRequest) -> str:
    """A file system that locks, and storage that cannot."""
    return str(request.param)


@pytest.fixture
def storage(kind: str, tmp_path: Path) -> Storage:
    return open_storage(kind, tmp_path / "run")


Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_holder(kind: str, tmp_path: Path) -> Iterator[Start]:
    """Starts processes that take the lease and keep it."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, kind, str(tmp_path / "run"), str(PERIOD_SECONDS)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def acquire(storage: Storage) -> RunLease:
    return RunLease.acquire(storage, "r", period_seconds=PERIOD_SECONDS)


def test_a_second_driver_is_told_who_holds_the_run(storage: Storage, start_holder: Start) -> None:
    holder = start_holder()
    with pytest.raises(RunHeld) as caught:
        acquire(storage)
    text = str(caught.value)
    assert f"the run r is held by pid {holder.pid} of " in text
    assert "since " in text
    assert " s ago): `axis stop " in text
    assert caught.value.exit_code == 3
    seen = peek(storage)
    assert seen is not None
    assert seen.pid == holder.pid


def test_a_killed_holder_stands_in_nobody_s_way(
    kind: str, storage: Storage, start_holder: Start
) -> None:
    holder = start_holder()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    begin = time.monotonic()
    with acquire(storage):
        took = time.monotonic() - begin
        assert took < (0.9 if kind == "local" else 3 * PERIOD_SECONDS)
        seen = peek(storage)
        assert seen is not None
        assert seen.pid == os.getpid()
    assert peek(storage) is None


def freeze(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while "T" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < deadline, "the process was not stopped"
        time.sleep(0.01)


def test_a_frozen_holder_is_taken_over_and_fenced_when_it_wakes_up(
    storage: Storage, start_holder: Start
) -> None:
    holder = start_holder()
    freeze(holder)
    begin = time.monotonic()
    with acquire(storage) as lease:
        assert time.monotonic() - begin >= PERIOD_SECONDS, "it was not watched for a whole period"
        seen = peek(storage)
        assert seen is not None
        assert seen.pid == os.getpid()
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout is not None
        said = holder.stdout.readline()
        assert said.startswith("Fenced the lease of r was taken over by ")
        time.sleep(PERIOD_SECONDS)  # it renews no more, and takes nothing back
        assert not lease.lost
        lease.check()
        holder.kill()
        holder.wait()
        assert not lease.lost
        with pytest.raises(RunHeld, match=f"held by pid {os.getpid()} of "):
            acquire(storage)
    assert peek(storage) is None


def test_a_holder_that_is_frozen_for_less_than_a_period_keeps_the_run(
    storage: Storage, start_holder: Start
) -> None:
    holder = start_holder()
    freeze(holder)
    waker = threading.Timer(0.4 * PERIOD_SECONDS, holder.send_signal, [signal.SIGCONT])
    waker.start()
    with pytest.raises(RunHeld, match=f"held by pid {holder.pid} of "):
        acquire(storage)
    waker.join()


def test_a_local_holder_that_was_frozen_while_nobody_wanted_the_run_keeps_it(
    tmp_path: Path,
) -> None:
    """Ctrl-Z for longer than the period, then ``fg``."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "local", str(tmp_path), "0.2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        freeze(process)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        with pytest.raises(RunHeld, match=f"pid {process.pid} of "):
            RunLease.acquire(Storage.open(str(tmp_path)), "r", period_seconds=5.0)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_looking_for_a_period_tells_frozen_from_alive(
    storage: Storage, start_holder: Start
) -> None:
    holder = start_holder()
    begin = time.monotonic()
    seen = peek(storage, period_seconds=PERIOD_SECONDS)
    assert seen is not None
    assert seen.pid == holder.pid
    assert time.monotonic() - begin < PERIOD_SECONDS, "it moved, and was watched on"
    freeze(holder)
    believed = peek(storage)
    assert believed is not None
    assert believed.pid == holder.pid
    assert peek(storage, period_seconds=PERIOD_SECONDS) is None


def test_of_many_takers_of_a_frozen_run_one_gets_it(
    kind: str, tmp_path: Path, storage: Storage, start_holder: Start
) -> None:
    freeze(start_holder())
    won: list[RunLease] = []
    lost: list[Exception] = []

    def take() -> None:
        try:
            won.append(acquire(storage))
        except RunHeld as error:
            lost.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    won[0].check()
    won[0].release()
    if kind == "local":
        assert [each.name for each in (tmp_path / "run").iterdir()] == ["lease.json"], (
            "something was left behind"
        )


@pytest.mark.parametrize("kind", ["local"], indirect=True)
def test_a_taker_that_dies_in_the_middle_of_a_takeover_stands_in_nobody_s_way(
    tmp_path: Path, start_holder: Start
) -> None:
    freeze(start_holder())
    program = (
        "import os, signal, sys\n"
        "from orchestrator.observe import lease_file\n"
        "from orchestrator.observe.lease import RunLease\n"
        "from orchestrator.storage import Storage\n"
        "def die(path, mark):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "lease_file._displace = die\n"
        "RunLease.acquire(Storage.open(sys.argv[1]), 'r', period_seconds=0.2)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        timeout=30,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, "it did not get as far as taking over"
    begin = time.monotonic()
    with acquire(open_storage("local", tmp_path / "run")) as lease:
        assert time.monotonic() - begin < 3 * PERIOD_SECONDS
        lease.check()


def test_what_was_let_go_is_taken_at_once(storage: Storage) -> None:
    acquire(storage).release()
    begin = time.monotonic()
    lease = acquire(storage)
    assert time.monotonic() - begin < PERIOD_SECONDS
    lease.release()
    lease.release()


def test_of_many_takers_at_once_one_gets_it(storage: Storage) -> None:
    won: list[RunLease] = []
    lost: list[Exception] = []
    gate = threading.Barrier(6)

    def take() -> None:
        gate.wait()
        try:
            won.append(acquire(storage))
        except RunHeld as error:
            lost.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    won[0].check()
    won[0].release()


def test_looking_takes_nothing_and_keeps_nobody_out(storage: Storage) -> None:
    assert peek(storage) is None
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            peek(storage)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5 if storage.is_local else 1):
            acquire(storage).release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_holder_whose_lease_was_taken_over_is_fenced(tmp_path: Path) -> None:
    storage = open_storage("object", tmp_path / "run")
    lease = acquire(storage)
    text = storage.read_bytes("lease.json").replace(b'"nonce": "', b'"nonce": "x')
    storage.write_atomic("lease.json", text)
    deadline = time.monotonic() + 3 * PERIOD_SECONDS
    while not lease.lost and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(Fenced, match="taken over"):
        lease.check()
    lease.release()
    assert storage.read_bytes("lease.json") == text, "another's lease was deleted"


def test_of_two_that_write_at_the_same_time_the_last_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage("object", tmp_path / "run")
    rival = Holder("node8", 99, "bob", time.time(), "axis run")
    mark = {"nonce": "rival", "counter": 0, "period_seconds": 1.0, "tag": asdict(rival)}
    sleep = time.sleep

    def meanwhile(seconds: float) -> None:
        if storage.exists("lease.json"):
            storage.write_atomic("lease.json", json.dumps(mark).encode())
        sleep(seconds)

    monkeypatch.setattr("orchestrator.observe.counter_lease.time.sleep", meanwhile)
    with pytest.raises(RunHeld, match="held by pid 99 of bob on node8"):
        acquire(storage)


def test_a_lease_that_cannot_be_read_is_watched_and_then_taken(tmp_path: Path) -> None:
    storage = open_storage("object", tmp_path / "run")
    storage.write_atomic("lease.json", b'{"nonce": "half')
    begin = time.monotonic()
    with acquire(storage):
        assert time.monotonic() - begin >= PERIOD_SECONDS


def test_a_holder_that_cannot_renew_counts_itself_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage("object", tmp_path / "run")
    lease = acquire(storage)

    def unreachable(self: Storage, relative: str, data: bytes) -> None:
        raise StorageError("unreachable")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "write_atomic", unreachable)
        time.sleep(1.5 * PERIOD_SECONDS)
        assert lease.lost
    lease.release()


def test_a_lock_on_a_folder_that_was_moved_away_does_not_count(tmp_path: Path) -> None:
    storage = open_storage("local", tmp_path / "run")
    with acquire(storage):
        (tmp_path / "run").rename(tmp_path / "aside")
        with acquire(storage):
            assert peek(storage) is not None


def test_a_lease_whose_folder_was_moved_away_is_lost(tmp_path: Path) -> None:
    storage = open_storage("local", tmp_path / "run")
    with acquire(storage) as lease:
        (tmp_path / "run").rename(tmp_path / "aside")
        with pytest.raises(Fenced, match="its folder was moved or deleted"):
            lease.check()


def test_a_holder_says_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder("node7", 1234, "ada", time.time() - 125, "axis run")
    text = holder.render()
    assert text.startswith("pid 1234 of ada on node7 since ")
    assert text.endswith(" (2 min ago)")
    ahead = Holder("node7", 1234, "ada", time.time() + 3600, "axis run")
    assert "ago" not in ahead.render()


def test_a_stop_request_waits_for_the_driver(storage: Storage) -> None:
    assert stop_requested(storage) is None
    request_stop(storage, "ada on node7")
    assert stop_requested(storage) == "ada on node7"
    clear_stop(storage)
    clear_stop(storage)
    assert stop_requested(storage) is None
    storage.write_atomic("stop.json", b"{")
    assert stop_requested(storage) == "somebody"
