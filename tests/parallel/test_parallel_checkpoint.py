"""A checkpoint that is not what was written must be named, and never be unpickled."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pyarrow import fs
from small_runs import DIGITS, GPT, MemoryChannel, Stores, plan_of, run_here

from jobs.digits import Digits
from jobs.gpt import GPT as GPTJob
from orchestrator.errors import DamagedError, ResumeRefused, StorageError
from orchestrator.job_import import load_job
from orchestrator.parallel.checkpoint import load_model, load_state, save_state
from orchestrator.parallel.manifest import (
    CheckpointManifest,
    list_checkpoints,
    read_manifest,
    verify_checkpoint,
    write_manifest,
)
from orchestrator.parallel.optimizer import build_optimizer
from orchestrator.parallel.world import World
from orchestrator.plan.training import SGD, AdamW
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def checkpoint(stores: Stores, new_run: Callable[[], str]) -> Storage:
    plan = plan_of(DIGITS, "training.steps=2", "training.workers=1")
    run = new_run()
    result, _ = run_here(plan, load_job(plan), stores.digits, run)
    assert result.checkpoint == "checkpoints/step-00000002-attempt-0001"
    return Storage.open(run).child(result.checkpoint)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "manifest.json"])
def test_damage_is_named(checkpoint: Storage, harm: Callable[[Path], None], name: str) -> None:
    assert verify_checkpoint(checkpoint).step == 2
    harm(checkpoint.local_path(name))
    for use in (verify_checkpoint, lambda folder: load_model(load_job(plan_of(DIGITS)), folder)):
        with pytest.raises(DamagedError, match=name.replace(".", r"\.")):
            use(checkpoint)


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_malicious_pickle_is_never_run(checkpoint: Storage, tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    attack = pickle.dumps(Malice(trace))
    size = checkpoint.local_path(".metadata").stat().st_size
    assert len(attack) < size
    # Of the right size, so that only the checksum can tell.
    checkpoint.local_path(".metadata").write_bytes(attack + bytes(size - len(attack)))
    model = Digits(8).model()
    optimizer = build_optimizer(model, AdamW())
    for use in (
        lambda: verify_checkpoint(checkpoint),
        lambda: load_model(Digits(8), checkpoint),
        lambda: load_state(checkpoint, model, optimizer, ALONE),
    ):
        with pytest.raises(DamagedError, match=r"\.metadata"):
            use()
        assert not trace.exists()
    pickle.loads(checkpoint.local_path(".metadata").read_bytes())
    assert trace.exists(), "the attack is a real one"


def test_a_pickle_swapped_after_the_check_is_never_run(
    checkpoint: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "was-here"

    def verify_then_swap(folder: Storage) -> CheckpointManifest:
        manifest = verify_checkpoint(folder)
        folder.local_path(".metadata").write_bytes(pickle.dumps(Malice(trace)))
        return manifest

    monkeypatch.setattr("orchestrator.parallel.checkpoint.verify_checkpoint", verify_then_swap)
    with pytest.raises(DamagedError, match=r"\.metadata changed"):
        load_model(Digits(8), checkpoint)
    assert not trace.exists()


def test_a_newer_format_is_refused(checkpoint: Storage) -> None:
    path = checkpoint.local_path("manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(DamagedError, match=r"manifest\.json has format 2.*newer"):
        verify_checkpoint(checkpoint)


def test_the_manifest_says_what_was_written(checkpoint: Storage) -> None:
    manifest = read_manifest(checkpoint)
    assert (manifest.step, manifest.attempt, manifest.consumed, manifest.seed) == (2, 1, 32, 0)
    assert manifest.mesh["replicate"] == 1
    assert set(manifest.metrics) == {"val_loss", "val_accuracy"}
    assert {file.name for file in manifest.files} == {".metadata", "__0_0.distcp"}
    for file in manifest.files:
        data = checkpoint.read_bytes(file.name)
        assert file.size_bytes == len(data)
        assert file.sha256 == hashlib.sha256(data).hexdigest()


def test_only_folders_with_a_manifest_are_listed(checkpoint: Storage) -> None:
    run = Storage.open(str(checkpoint.local_path().parents[1]))
    manifest = read_manifest(checkpoint)
    newer = replace(manifest, step=3, attempt=2)
    run.write_atomic("checkpoints/step-00000009-attempt-0001/.metadata", b"half written")
    write_manifest(run, newer)
    write_manifest(run, replace(manifest, attempt=2))
    assert list_checkpoints(run) == [
        "checkpoints/step-00000003-attempt-0002",
        "checkpoints/step-00000002-attempt-0002",
        "checkpoints/step-00000002-attempt-0001",
    ]


def test_another_model_is_refused(checkpoint: Storage) -> None:
    with pytest.raises(ResumeRefused, match=r"\[4, 1, 3, 3\] here and \[8, 1, 3, 3\] there"):
        load_model(Digits(4), checkpoint)
    with pytest.raises(ResumeRefused, match="is not in the checkpoint"):
        load_model(GPTJob(), checkpoint)


def test_another_optimizer_is_refused(checkpoint: Storage) -> None:
    model = Digits(8).model()
    with pytest.raises(ResumeRefused, match="exp_avg is only in the checkpoint"):
        load_state(checkpoint, model, build_optimizer(model, SGD()), ALONE)


def test_other_samples_are_refused(stores: Stores, new_run: Callable[[], str]) -> None:
    plan = plan_of(DIGITS, "training.steps=2", "training.workers=1")
    run = new_run()
    result, _ = run_here(plan, load_job(plan), stores.digits, run)
    for overrides in (("seed=5",), ("training.global_batch=8",)):
        other = plan_of(DIGITS, "training.steps=4", "training.workers=1", *overrides)
        with pytest.raises(ResumeRefused, match="other samples, or in another order"):
            run_here(other, load_job(other), stores.digits, run, resume=result.checkpoint)


@pytest.mark.parametrize("spec", [AdamW(), SGD(momentum=0.9), SGD()])
def test_model_and_optimizer_come_back_from_a_store_without_paths(spec: AdamW | SGD) -> None:
    """On a file system that is not this machine's, bit by bit, tied parameters included."""
    run = Storage.on(fs._MockFileSystem(), "bucket/run")
    job = GPTJob(layers=1, hidden=16, heads=2, kv_heads=1, ffn=32, seq_len=8)
    model, there = job.model(), job.model()
    optimizer, optimizer_there = build_optimizer(model, spec), build_optimizer(there, spec)
    tokens = torch.arange(16).reshape(2, 8)
    for _ in range(2):
        model(tokens).square().mean().backward()
        optimizer.step()
    manifest = CheckpointManifest(
        step=2, attempt=1, consumed=4, seed=0, plan_hash="", store_hash="", mesh={}, metrics={},
        seconds=0.0, files=()
    )  # fmt: skip
    checkpoint = run.child(manifest.folder)
    write_manifest(run, replace(manifest, files=save_state(checkpoint, model, optimizer, ALONE)))
    load_state(checkpoint, there, optimizer_there, ALONE)
    for name, value in model.state_dict().items():
        assert torch.equal(value, there.state_dict()[name]), name
    for here, back in zip(model.parameters(), there.parameters(), strict=True):
        kept = {k: v for k, v in optimizer.state[here].items() if isinstance(v, torch.Tensor)}
        assert kept or isinstance(spec, SGD)
        for part, value in kept.items():
            assert torch.equal(value, optimizer_there.state[back][part]), part
    served, _ = load_model(job, checkpoint)
    assert not served.training
    assert torch.equal(served(tokens), model(tokens))


def test_a_full_disk_is_a_storage_error(
    checkpoint: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Digits(8).model()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.parallel.dcp_storage.HashingStream.write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_state(checkpoint.child("again"), model, build_optimizer(model, SGD()), ALONE)


def test_gpt_checkpoint_serves_the_trained_model(
    stores: Stores, new_run: Callable[[], str]
) -> None:
    plan = plan_of(GPT, "training.steps=3", "training.workers=1")
    job, run = load_job(plan), new_run()
    result, channel = run_here(plan, job, stores.gpt, run)
    assert isinstance(channel, MemoryChannel)
    model, manifest = load_model(job, Storage.open(run).child(result.checkpoint or ""))
    assert manifest.metrics == result.metrics
    answers = job.answer(model, [{"prompt": "de", "max_tokens": 3}])
    assert answers[0]["num_tokens"] <= 3
