"""What becomes of checkpoints that are no use: marked, deleted, refused; and of a full disk."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import DIGITS, Stores, plan_of, run_here

from orchestrator.errors import DamagedCheckpointError, StorageError
from orchestrator.job_import import load_job
from orchestrator.parallel import worker as worker_module
from orchestrator.parallel.channel import StepRecord
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.manifest import FORMAT, checksum_of, verify_checkpoint, write_manifest
from orchestrator.parallel.upkeep import (
    collect_partial,
    damage_of,
    list_checkpoints,
    mark_damaged,
    survey,
)
from orchestrator.storage import Storage

ROOT = Path(__file__).parents[2]


def folder(step: int, attempt: int) -> str:
    return f"checkpoints/step-{step:08d}-attempt-{attempt:04d}"


def trained(stores: Stores, run: str, *overrides: str, attempt: int = 1) -> list[str]:
    """Train and return the checkpoints, newest first."""
    plan = plan_of(DIGITS, "training.workers=1", *overrides)
    resume = next(iter(list_checkpoints(Storage.open(run))), None)
    run_here(plan, load_job(plan), stores.digits, run, attempt=attempt, resume=resume)
    return list_checkpoints(Storage.open(run))


@pytest.mark.unit
def test_what_crashes_left_is_deleted_when_an_attempt_begins(
    stores: Stores, new_run: Callable[[], str]
) -> None:
    name = new_run()
    trained(stores, name, "training.steps=4", "coordination.checkpoint.every=2")
    run = Storage.open(name)
    for step, attempt in ((6, 1), (8, 2), (10, 3), (12, 4)):
        run.write_atomic(f"{folder(step, attempt)}/__0_0.distcp", b"half of a file")
    run.write_atomic(f"{folder(14, 1)}/.metadata", b"half of a damaged one")
    mark_damaged(run, folder(14, 1), "its manifest is gone")
    run.write_atomic("checkpoints/notes.txt", b"somebody's")
    trained(stores, name, "training.steps=5", attempt=3)
    left = {entry.path for entry in run.list("checkpoints")}
    assert left == {
        folder(2, 1), folder(4, 1), folder(5, 3),
        folder(10, 3), folder(12, 4),  # of this attempt and a later one: maybe being written
        folder(14, 1), "checkpoints/notes.txt",
    }  # fmt: skip


@pytest.mark.unit
def test_collecting_tells_what_it_deleted(tmp_path: Path) -> None:
    run = Storage.open(str(tmp_path))
    assert collect_partial(run, 7) == ()
    run.write_atomic(f"{folder(6, 1)}/__0_0.distcp", b"half")
    assert collect_partial(run, 1) == ()
    assert collect_partial(run, 2) == (folder(6, 1),)
    assert run.list("checkpoints") == []


@pytest.mark.unit
def test_a_mark_sets_aside_and_gives_the_reason(stores: Stores, new_run: Callable[[], str]) -> None:
    name = new_run()
    newest, older = trained(stores, name, "training.steps=4", "coordination.checkpoint.every=2")
    run = Storage.open(name)
    assert damage_of(run, newest) == ""
    mark_damaged(run, newest, "two flipped bits")
    assert damage_of(run, newest) == "two flipped bits"
    assert list_checkpoints(run) == [older]
    found = {kept.folder: (kept.condition, kept.reason) for kept in survey(run)}
    assert found == {newest: ("damaged", "two flipped bits"), older: ("sound", "")}
    verify_checkpoint(run.child(newest))  # the mark is no file of the manifest
    run.delete(f"{newest}/damaged.json")
    assert list_checkpoints(run) == [newest, older]
    run.write_atomic(f"{newest}/damaged.json", b"\xff{")
    assert "cannot be read" in damage_of(run, newest)


@pytest.mark.unit
def test_every_condition_is_surveyed(stores: Stores, new_run: Callable[[], str]) -> None:
    name = new_run()
    newest, older = trained(stores, name, "training.steps=4", "coordination.checkpoint.every=2")
    run = Storage.open(name)
    data = run.read_bytes(f"{older}/__0_0.distcp")
    run.write_atomic(f"{older}/__0_0.distcp", data[:-1])
    manifest = verify_checkpoint(run.child(newest))
    write_manifest(run, replace(manifest, step=6, format=FORMAT + 1))
    run.write_atomic(f"{folder(8, 1)}/__0_0.distcp", b"half")
    found = {kept.step: kept for kept in survey(run)}
    conditions = {step: kept.condition for step, kept in found.items()}
    assert conditions == {2: "damaged", 4: "sound", 6: "newer", 8: "partial"}
    assert f"has {len(data) - 1} bytes, but {len(data)} were written" in found[2].reason
    assert f"format {FORMAT + 1}" in found[6].reason
    assert found[4].metrics == manifest.metrics
    assert found[4].mesh["replicate"] == 1
    assert found[4].size_bytes == manifest.size_bytes
    assert found[4].at_seconds > 1.6e9
    assert found[8].size_bytes == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many bytes; asked again, the same one with another size."""
    place = tmp_path / "disk"

    def sized(size_bytes: int) -> Path:
        first = not place.exists()
        place.mkdir(exist_ok=True)
        how = f"{'' if first else 'remount,'}size={size_bytes}"
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
        return place

    yield sized
    subprocess.run(["umount", str(place)], capture_output=True, timeout=20)


@pytest.mark.unit
@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_a_full_disk_costs_the_steps_since_the_checkpoint_before(
    stores: Stores,
    new_run: Callable[[], str],
    small_disk: Callable[[int], Path],
    asynchronous: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real file system that is full: training goes on, the last checkpoint is waited for, then
    the failure is told with numbers, nothing half is left, and the run resumes."""
    monkeypatch.setattr(worker_module, "LAST_WAITS_SECONDS", (0.01, 0.01))
    settings = (
        "coordination.checkpoint.every=4",
        f"coordination.checkpoint.asynchronous={asynchronous}",
        "options={channels: 32}",
    )
    plan = plan_of(DIGITS, "training.workers=1", *settings)
    job = load_job(plan)
    whole, at_ease = run_here(plan, job, stores.digits, new_run())
    size = sum(kept.size_bytes for kept in survey(Storage.open(at_ease.run.uri))) // 5
    assert size > 100_000
    disk = small_disk(int(2.6 * size))
    name = str(disk / "run")
    run = Storage.open(name)
    with pytest.raises(StorageError) as failure:
        run_here(plan, job, stores.digits, name)
    text = str(failure.value)
    assert f"{folder(20, 1)}/__0_0.distcp: No space left on device after" in text
    assert f"of {disk_size(disk):,} bytes are free there" in text
    assert [kept.condition for kept in survey(run)] == ["sound", "sound"], "nothing half is left"
    newest = list_checkpoints(run)[0]
    assert newest == folder(8, 1)
    small_disk(10 * size)
    again, channel = run_here(plan, job, stores.digits, name, attempt=2, resume=newest)
    assert again.metrics == whole.metrics
    assert channel.losses == at_ease.losses[8:]


def disk_size(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_frsize * found.f_blocks


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def torchrun(plan: Path, store: str, run: str) -> subprocess.CompletedProcess[str]:
    command = ["-m", "orchestrator.parallel", str(plan), "--store", store, "--run-dir", run]
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.gloo
def test_without_a_coordinator_damage_is_set_aside_too(
    stores: Stores, new_run: Callable[[], str], tmp_path: Path
) -> None:
    name, trace = new_run(), tmp_path / "was-here"
    newest, older = trained(stores, name, "coordination.checkpoint.every=10")
    run = Storage.open(name)
    metadata = run.local_path(f"{newest}/.metadata")
    attack = pickle.dumps(Malice(trace))
    metadata.write_bytes(attack + bytes(metadata.stat().st_size - len(attack)))
    run.write_atomic(f"{folder(30, 1)}/__0_0.distcp", b"half")
    plan = tmp_path / "plan.yaml"
    plan.write_text(DIGITS)
    done = torchrun(plan, stores.digits, name)
    assert done.returncode == 0, done.stderr
    assert f"set aside and passed over: {name}/{newest}/.metadata holds other bytes" in done.stderr
    assert not trace.exists(), "nothing of it was unpickled"
    assert ".metadata holds other bytes" in damage_of(run, newest)
    assert list_checkpoints(run) == [folder(20, 2), older]
    assert not run.exists(folder(30, 1))
    assert run.exists("plan.yaml"), "so that its checkpoints can be exported"
    pickle.loads(metadata.read_bytes())
    assert trace.exists(), "the attack is a real one"


@pytest.mark.gloo
def test_a_newer_checkpoint_stops_a_resume_and_is_left_alone(
    stores: Stores, new_run: Callable[[], str], tmp_path: Path
) -> None:
    name = new_run()
    newest, _ = trained(stores, name, "coordination.checkpoint.every=10")
    path = Storage.open(name).local_path(f"{newest}/manifest.json")
    body = {**json.loads(path.read_text()), "format": FORMAT + 1, "written_by": "7.7.7"}
    body.pop("checksum")
    path.write_text(json.dumps({**body, "checksum": checksum_of(body)}))
    before = sorted(path.parent.parent.rglob("*"))
    plan = tmp_path / "plan.yaml"
    plan.write_text(DIGITS)
    done = torchrun(plan, stores.digits, name)
    assert done.returncode == 2
    assert "it is not damaged" in done.stderr
    assert "axis-orchestrator 7.7.7 or a later one" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.parent.parent.rglob("*")) == before


@pytest.mark.unit
def test_a_damaged_resume_is_told_as_a_checkpoint_s(
    stores: Stores, new_run: Callable[[], str]
) -> None:
    name = new_run()
    newest, *_ = trained(stores, name, "training.steps=2")
    Storage.open(name).delete(f"{newest}/__0_0.distcp")
    plan = plan_of(DIGITS, "training.workers=1")
    with pytest.raises(DamagedCheckpointError, match=r"__0_0\.distcp is missing"):
        run_here(plan, load_job(plan), stores.digits, name, attempt=2, resume=newest)


@pytest.mark.unit
def test_records_are_neither_lost_nor_torn_while_a_checkpoint_flushes(tmp_path: Path) -> None:
    channel = LocalChannel(Storage.open(str(tmp_path)), 1, 0, record_ids=True)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            channel.saving()

    thread = threading.Thread(target=flush)
    thread.start()
    for step in range(1, 2001):
        channel.report(StepRecord(step, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1, np.array([step])))
    done.set()
    thread.join()
    channel.flush()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 2001))
    ids = (tmp_path / "ids" / "attempt-0001-rank-0000.jsonl").read_text().splitlines()
    assert [json.loads(line)["ids"] for line in ids] == [[step] for step in range(1, 2001)]
