"""An attempt that was stopped and goes on after a later one has committed changes nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gloo_gang import Gang
from small_runs import DIGITS, Stores
from stale_cases import Stop

from orchestrator.errors import Fenced
from orchestrator.parallel.attempts import ATTEMPTS, check_owner, commit, take_attempt
from orchestrator.parallel.manifest import CheckpointManifest, verify_checkpoint
from orchestrator.parallel.upkeep import list_checkpoints
from orchestrator.storage import Storage

PLAN = ("training.workers=2", "training.steps=20", "coordination.checkpoint.every=5")


@pytest.fixture(scope="module")
def stale_gang() -> Iterator[Gang]:
    """The processes of the attempt that is stopped."""
    with Gang(2) as started:
        yield started


def await_stop(pid: int) -> None:
    """Until the process has stopped itself: the fault has fired."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.05)
    pytest.fail("the process never stopped")


def contents(run: Path, pattern: str) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.glob(pattern) if p.is_file()}


@pytest.mark.gloo
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("rank", "point"),
    [(1, "saving"), (1, "writing"), (0, "committing"), (0, "looking"), (0, "renaming")],
)
def test_a_worker_that_is_revived_after_a_later_commit_cannot_make_a_checkpoint_exist(
    gang: Gang, stale_gang: Gang, stores: Stores, tmp_path: Path, rank: int, point: str
) -> None:
    """Stopped in the checkpoint of step 10; a second attempt goes on from that of step 5."""
    run = Storage.open(str(tmp_path / "run"))
    first = take_attempt(run)
    arguments = (DIGITS, PLAN, stores.digits, run.uri)
    stale_gang.start("stale_cases:stale_case", 2, *arguments, first, None, Stop(rank, point))
    pid = stale_gang.processes[rank].pid
    assert pid is not None
    await_stop(pid)
    second = take_attempt(run)
    (resume,) = list_checkpoints(run)
    ended = gang.run("stale_cases:stale_case", 2, *arguments, second, resume)
    assert ended == ["finished"] * 2
    before = list_checkpoints(run)
    folder = tmp_path / "run"
    kept = contents(folder, "checkpoints/*-attempt-0002/**/*")
    assert len(before) == 4
    assert kept
    os.kill(pid, signal.SIGCONT)
    for heard in stale_gang.results(2):
        assert heard.startswith(("Fenced: attempt 1", "StorageError")), heard
        assert heard.startswith("Fenced") or point == "writing"
    assert list_checkpoints(run) == before
    assert contents(folder, "checkpoints/*-attempt-0002/**/*") == kept
    for checkpoint in before:
        verify_checkpoint(run.child(checkpoint))
    assert contents(folder, "checkpoints/step-00000010-attempt-0001/**/*") == {}


def manifest_of(attempt: int) -> CheckpointManifest:
    return CheckpointManifest(
        step=3, attempt=attempt, consumed=0, seed=0, plan_hash="", store_hash="", mesh={},
        metrics={},
    )  # fmt: skip


@pytest.mark.unit
def test_numbers_go_up_and_only_the_highest_commits(tmp_path: Path) -> None:
    run = Storage.open(str(tmp_path))
    run.write_atomic("checkpoints/step-00000007-attempt-0004/x", b"")
    assert take_attempt(run) == 5, "later than what lies there"
    commit(run, manifest_of(5))
    assert take_attempt(run) == 6
    check_owner(run, 6)
    with pytest.raises(Fenced, match=r"attempt 5 may not commit: attempt 6 owns"):
        commit(run, manifest_of(5))
    commit(run, manifest_of(6))
    assert [f.rpartition("-")[2] for f in list_checkpoints(run)] == ["0006", "0005"]
    assert {entry.path for entry in run.list(ATTEMPTS)} == {"attempts/0005", "attempts/0006"}


@pytest.mark.unit
def test_each_that_begins_gets_a_number_of_its_own(tmp_path: Path) -> None:
    run = Storage.open(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: take_attempt(run), range(24)))
    assert sorted(taken) == list(range(1, 25))
