"""A checkpoint that is not what was written must be named, and never be unpickled."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pyarrow import fs
from small_runs import DIGITS, GPT, MemoryChannel, Stores, plan_of, run_here
from torch import nn
from torch.distributed.checkpoint.state_dict_saver import save

from jobs.digits import Digits
from jobs.gpt import GPT as GPTJob
from orchestrator import __version__
from orchestrator.errors import DamagedCheckpointError, DamagedError, ResumeRefused, StorageError
from orchestrator.job_import import load_job
from orchestrator.parallel.checkpoint import load_model, load_state, save_state
from orchestrator.parallel.dcp_storage import CheckpointWriter
from orchestrator.parallel.manifest import (
    FORMAT,
    CheckpointManifest,
    checksum_of,
    read_manifest,
    verify_checkpoint,
    write_manifest,
)
from orchestrator.parallel.optimizer import build_optimizer, create_state
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.upkeep import list_checkpoints, mark_damaged
from orchestrator.parallel.world import World
from orchestrator.plan.training import SGD, AdamW
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

ALONE = World(0, 1, torch.device("cpu"))


def parts_of(model: nn.Module) -> Parts:
    return Parts([model], tied_names(model))


def optimizer_of(model: nn.Module, spec: AdamW | SGD) -> torch.optim.Optimizer:
    return build_optimizer(parts_of(model).parameters(), spec)


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
    optimizer = optimizer_of(model, AdamW())
    for use in (
        lambda: verify_checkpoint(checkpoint),
        lambda: load_model(Digits(8), checkpoint),
        lambda: load_state(checkpoint, parts_of(model), optimizer, ALONE),
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


def rewrite(checkpoint: Storage, **changes: object) -> None:
    """Change fields of the manifest, and its checksum with them."""
    path = checkpoint.local_path("manifest.json")
    body = {**json.loads(path.read_text()), **changes}
    body.pop("checksum")
    path.write_text(json.dumps({**body, "checksum": checksum_of(body)}))


def test_a_newer_format_is_refused_and_not_taken_for_damage(checkpoint: Storage) -> None:
    rewrite(checkpoint, format=FORMAT + 1, written_by="9.1.0", surprise=[1, 2])
    for use in (verify_checkpoint, lambda folder: load_model(Digits(8), folder)):
        with pytest.raises(ResumeRefused) as refusal:
            use(checkpoint)
        text = str(refusal.value)
        assert f"format {FORMAT + 1}; axis-orchestrator {__version__} reads formats 1 to" in text
        assert "axis-orchestrator 9.1.0 or a later one" in text
        assert refusal.value.exit_code == 2
    run = Storage.open(str(checkpoint.local_path().parents[1]))
    assert list_checkpoints(run), "nobody set it aside"


def test_a_flipped_bit_in_the_number_of_the_format_is_damage(checkpoint: Storage) -> None:
    path = checkpoint.local_path("manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(DamagedCheckpointError, match="does not match its own checksum"):
        verify_checkpoint(checkpoint)


def test_a_manifest_with_unknown_fields_is_damage(checkpoint: Storage) -> None:
    rewrite(checkpoint, surprise=1)
    with pytest.raises(DamagedCheckpointError, match=r"the fields of its format.*surprise"):
        verify_checkpoint(checkpoint)


def test_refusals_survive_being_told_to_other_workers(checkpoint: Storage) -> None:
    rewrite(checkpoint, format=FORMAT + 1)
    with pytest.raises(ResumeRefused) as refusal:
        read_manifest(checkpoint)
    told = pickle.loads(pickle.dumps(refusal.value))
    assert type(told) is ResumeRefused
    assert (str(told), told.problems) == (str(refusal.value), refusal.value.problems)


def test_the_manifest_says_what_was_written(checkpoint: Storage) -> None:
    manifest = read_manifest(checkpoint)
    assert (manifest.step, manifest.attempt, manifest.consumed, manifest.seed) == (2, 1, 32, 0)
    assert manifest.mesh["replicate"] == 1
    assert set(manifest.metrics) == {"val_loss", "val_accuracy"}
    assert (manifest.format, manifest.written_by, manifest.skipped) == (FORMAT, __version__, ())
    assert 0 < manifest.stall_seconds <= manifest.seconds
    assert manifest.tensors == {
        n: tuple(t.shape) for n, t in Digits(8).model().state_dict().items()
    }
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
    expected = [
        "checkpoints/step-00000003-attempt-0002",
        "checkpoints/step-00000002-attempt-0002",
        "checkpoints/step-00000002-attempt-0001",
    ]
    assert list_checkpoints(run) == expected
    mark_damaged(run, expected[1], "a flipped bit")
    assert list_checkpoints(run) == [expected[0], expected[2]]


def test_another_model_is_refused(checkpoint: Storage) -> None:
    with pytest.raises(ResumeRefused, match=r"\[4, 1, 3, 3\] here and \[8, 1, 3, 3\] there"):
        load_model(Digits(4), checkpoint)
    with pytest.raises(ResumeRefused, match="is not in the checkpoint"):
        load_model(GPTJob(), checkpoint)


def test_another_optimizer_is_refused(checkpoint: Storage) -> None:
    model = Digits(8).model()
    with pytest.raises(ResumeRefused, match="exp_avg is only in the checkpoint"):
        load_state(checkpoint, parts_of(model), optimizer_of(model, SGD()), ALONE)


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
    optimizer, optimizer_there = optimizer_of(model, spec), optimizer_of(there, spec)
    tokens = torch.arange(16).reshape(2, 8)
    for _ in range(2):
        model(tokens).square().mean().backward()
        optimizer.step()
    manifest = CheckpointManifest(
        step=2, attempt=1, consumed=4, seed=0, plan_hash="", store_hash="", mesh={}, metrics={},
        seconds=0.0, files=()
    )  # fmt: skip
    checkpoint = run.child(manifest.folder)
    files = save_state(checkpoint, parts_of(model), optimizer, ALONE)
    write_manifest(run, replace(manifest, files=files))
    load_state(checkpoint, parts_of(there), optimizer_there, ALONE)
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
    optimizer = optimizer_of(model, SGD())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.parallel.dcp_storage.HashingStream.write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_state(checkpoint.child("again"), parts_of(model), optimizer, ALONE)


def write_as_format_1(
    checkpoint: Storage, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """A checkpoint as version 0.1.0 wrote it: all names of the state dict, fewer fields."""
    state: dict[str, object] = {f"model/{n}": value for n, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for part, value in optimizer.state[parameter].items():
            state[f"optimizer/{name}/{part}"] = value
    writer = CheckpointWriter(checkpoint)
    with warnings.catch_warnings(action="ignore"):
        save(state, storage_writer=writer, no_dist=True)
    files = [vars(file) for file in sorted(writer.files.written.values(), key=lambda f: f.name)]
    body = {
        "step": 7, "attempt": 3, "consumed": 112, "seed": 5, "plan_hash": "p", "store_hash": "s",
        "mesh": {"replicate": 1}, "metrics": {"val_loss": 1.5}, "files": files, "seconds": 0.25,
        "rng": "by-position", "format": 1,
    }  # fmt: skip
    text = json.dumps({**body, "checksum": checksum_of(body)})
    checkpoint.write_atomic("manifest.json", text.encode())


def trained_gpt(tie: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    job = GPTJob(layers=1, hidden=16, heads=2, kv_heads=1, ffn=32, seq_len=8, tie=tie)
    model = job.model()
    optimizer = optimizer_of(model, AdamW())
    model(torch.arange(16).reshape(2, 8)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def test_a_checkpoint_of_format_1_is_loaded(tmp_path: Path) -> None:
    """It holds tied parameters under both of their names."""
    (model, optimizer), (there, optimizer_there) = trained_gpt(True), trained_gpt(True)
    checkpoint = Storage.open(str(tmp_path / "step-00000007-attempt-0003"))
    write_as_format_1(checkpoint, model, optimizer)
    manifest = load_state(checkpoint, parts_of(there), optimizer_there, ALONE)
    assert (manifest.step, manifest.format, manifest.tensors, manifest.skipped) == (7, 1, {}, ())
    assert (manifest.stall_seconds, manifest.written_by) == (0.0, "")
    for (name, here), back in zip(model.named_parameters(), there.parameters(), strict=True):
        assert torch.equal(here, back), name
        for part, value in optimizer.state[here].items():
            assert torch.equal(value, optimizer_there.state[back][part]), (name, part)


def test_names_that_are_no_alias_are_refused_in_format_1_too(tmp_path: Path) -> None:
    (model, optimizer), (there, optimizer_there) = trained_gpt(False), trained_gpt(True)
    checkpoint = Storage.open(str(tmp_path / "step-00000007-attempt-0003"))
    write_as_format_1(checkpoint, model, optimizer)
    with pytest.raises(ResumeRefused, match=r"lm_head.weight/exp_avg is only in the checkpoint"):
        load_state(checkpoint, parts_of(there), optimizer_there, ALONE)


@pytest.mark.parametrize("spec", [AdamW(), SGD(momentum=0.9), SGD()])
def test_state_is_created_without_moving_anything(spec: AdamW | SGD) -> None:
    """So that a run's first steps are the same with the state made beforehand as without."""
    first, second = (GPTJob(layers=1, hidden=16, heads=2, kv_heads=1, ffn=32, seq_len=8).model()
                     for _ in range(2))  # fmt: skip
    second.load_state_dict(first.state_dict())
    plain, prepared = optimizer_of(first, spec), optimizer_of(second, spec)
    create_state(prepared)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    for _ in range(3):
        for model, optimizer in ((first, plain), (second, prepared)):
            model(torch.arange(16).reshape(2, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_extra_state_is_refused_rather_than_forgotten(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

    model = Counting(2, 2)
    with pytest.raises(TypeError, match=r"Counting defines get_extra_state.*register a buffer"):
        save_state(Storage.open(str(tmp_path)), parts_of(model), optimizer_of(model, SGD()), ALONE)


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
