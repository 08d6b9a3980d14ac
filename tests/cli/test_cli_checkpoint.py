"""``axis checkpoint ls``, ``verify`` and ``export`` on checkpoints that a run really wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.gpt import GPT
from orchestrator.coordinator import events as ev
from orchestrator.feed.build import build_shard_from_rows
from orchestrator.feed.corpus import build_manifest
from orchestrator.feed.write import commit_store
from orchestrator.job_import import load_job
from orchestrator.observe.lease import RunLease
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.loop import train
from orchestrator.parallel.manifest import checksum_of
from orchestrator.parallel.setup import TrainSetup
from orchestrator.parallel.upkeep import mark_damaged
from orchestrator.plan.dump import dump_plan
from orchestrator.plan.load import parse_plan
from orchestrator.storage import Storage
from tests.cli.conftest import Project
from tests.observe.past_run import PastRun

pytestmark = pytest.mark.unit

PLAN = """\
version: 1
name: small
job: jobs.gpt:GPT
options: {layers: 2, hidden: 32, heads: 4, kv_heads: 2, ffn: 64, seq_len: 24, tie: TIE,
  rope_theta: 500.0, norm_eps: 0.001}
data: {source: {kind: text, path: corpus}, holdout: 0.2}
training: {workers: 1, global_batch: 4, steps: 6, evaluate: {samples: 4}}
coordination: {checkpoint: {every: 2}}
"""
COLUMNS = ["STEP", "ATTEMPT", "MESH", "SIZE", "VAL_ACCURACY", "VAL_LOSS", "AGE", "STATE"]
FOLDERS = [f"checkpoints/step-{step:08d}-attempt-0001" for step in (2, 4, 6)]


@dataclass
class Trained:
    """A project in which the run ``small`` was trained."""

    project: Project
    run: Path

    def __call__(self, *arguments: str) -> Any:
        return self.project("checkpoint", *arguments)

    def states(self) -> list[tuple[int, str]]:
        return [(each["step"], each["state"]) for each in self("ls", "small", "--json").json()]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of a small GPT, three checkpoints; nobody changes it."""
    folder = tmp_path_factory.mktemp("template")
    plan = parse_plan(PLAN.replace("TIE", "true")).plan
    job = load_job(plan)
    store = Storage.open(str(folder / "store"))
    rows = [{"text": f"some words, {n} of them" * 3} for n in range(20)]
    shard = build_shard_from_rows(rows, job, store)
    commit_store(
        store,
        build_manifest([shard], key="k", plan_hash="p", code_hash="c", source={}, num_files=1),
    )
    run = Storage.open(str(folder / "run"))
    train(TrainSetup(plan=plan, job=job, store=store, run=run, attempt=1), LocalChannel(run, 1, 0))
    run.write_atomic("plan.yaml", dump_plan(plan).encode())
    return folder / "run"


@pytest.fixture
def trained(project: Project, template: Path) -> Trained:
    import shutil

    run = project.root / "runs" / "small"
    shutil.copytree(template, run)
    return Trained(project, run)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_they_are_listed(trained: Trained) -> None:
    told = trained("ls", "runs/small")
    assert told.code == 0, told
    head, *rows = told.out.splitlines()
    assert head.split() == COLUMNS
    assert [row.split()[0] for row in rows] == ["2", "4", "6"]
    assert all("one worker" in row and row.endswith("sound") for row in rows)
    listed = trained("ls", "small", "--json").json()
    assert [each["folder"] for each in listed] == FOLDERS
    assert all(each["metrics"]["val_loss"] > 0 and each["size_bytes"] > 1000 for each in listed)


def test_every_state_is_told_apart(trained: Trained) -> None:
    past = PastRun(Storage.open(str(trained.project.root / "runs")), "small")
    past.open(steps=6, keep=3)
    past.to_training()
    past.commit(2, 3.0)
    past.commit(4, 2.0)
    past.commit(6, 2.5)
    assert trained.states() == [(2, "sound"), (4, "sound"), (6, "sound")]
    past.tell(ev.TrainingEnded, step=6)
    assert trained.states() == [(2, "sound"), (4, "promoted"), (6, "sound")]
    run = Storage.open(str(trained.run))
    mark_damaged(run, FOLDERS[0], "a flipped bit in __0_0.distcp")
    run.write_atomic("checkpoints/step-00000008-attempt-0001/__0_0.distcp", b"half")
    path = trained.run / FOLDERS[2] / "manifest.json"
    body = {**json.loads(path.read_text()), "format": 99, "written_by": "9.0"}
    body.pop("checksum")
    path.write_text(json.dumps({**body, "checksum": checksum_of(body)}))
    expected = [(2, "damaged"), (4, "promoted"), (6, "newer"), (8, "partial")]
    assert trained.states() == expected
    text = trained("ls", "small").out
    assert "step 2, damaged: a flipped bit in __0_0.distcp" in text
    assert "step 6, newer: format 99" in text
    lease = RunLease.acquire(run, "small")
    try:
        assert trained.states() == [*expected[:3], (8, "being written")]
    finally:
        lease.release()


def test_a_file_of_another_size_is_seen_without_reading_it(trained: Trained) -> None:
    file = trained.run / FOLDERS[1] / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    assert trained.states() == [(2, "sound"), (4, "damaged"), (6, "sound")]


def test_sound_ones_are_verified(trained: Trained) -> None:
    told = trained("verify", "small")
    assert told.code == 0, told
    assert told.out.startswith(f"{FOLDERS[2]}: sound (")
    assert told.out.rstrip().endswith("MB/s)")
    assert len(trained("verify", "small", "--all").out.splitlines()) == 3
    (one,) = trained("verify", "small", "--step", "4", "--json").json()
    assert (one["folder"], one["sound"], one["error"]) == (FOLDERS[1], True, "")
    assert one["seconds"] > 0


def test_a_damaged_one_is_named_with_the_exit_code_of_damage(trained: Trained) -> None:
    flip(trained.run / FOLDERS[1] / "__0_0.distcp")
    assert trained("verify", "small").code == 0, "the newest is sound"
    told = trained("verify", "small", "--all")
    assert told.code == 1
    assert [line.split()[1] for line in told.out.splitlines()] == ["sound", "DAMAGED:", "sound"]
    assert "__0_0.distcp holds other bytes than were written" in told.out
    assert "error: 1 checkpoint of 3 is not what was written" in told.err
    assert trained("verify", "small", "--step", "4").code == 1
    told = trained("verify", "small", "--all", "--json")
    assert told.code == 1
    assert [each["sound"] for each in told.json()] == [True, False, True]


def test_one_that_was_set_aside_is_verified_too(trained: Trained) -> None:
    mark_damaged(Storage.open(str(trained.run)), FOLDERS[2], "a bad cable")
    told = trained("verify", "small", "--step", "6")
    assert told.code == 0
    assert "sound (" in told.out
    assert "but set aside: a bad cable; deleting its damaged.json undoes that" in told.out


def test_what_is_not_there_is_said(trained: Trained) -> None:
    told = trained("verify", "small", "--step", "3")
    assert told.code == 2
    assert "there is no checkpoint of step 3" in told.err
    assert "steps there: 2 (sound), 4 (sound), 6 (sound)" in told.err
    assert trained("ls", "nobody").code == 1
    assert trained("export", "small", "--output", "x", "--format", "onnx").code == 2


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def exported(request: pytest.FixtureRequest, project: Project, template: Path) -> Any:
    """A checkpoint whose weights are large enough to matter, and its export."""
    from dataclasses import replace

    from orchestrator.parallel.checkpoint import save_state
    from orchestrator.parallel.manifest import read_manifest, write_manifest
    from orchestrator.parallel.optimizer import build_optimizer
    from orchestrator.parallel.parts import Parts, tied_names
    from orchestrator.parallel.world import World
    from orchestrator.plan.training import SGD

    plan = parse_plan(PLAN.replace("TIE", "true" if request.param else "false")).plan
    job = load_job(plan)
    torch.manual_seed(3)
    model = job.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    run = Storage.open(str(project.root / "runs" / "small"))
    run.write_atomic("plan.yaml", dump_plan(plan).encode())
    manifest = replace(read_manifest(Storage.open(str(template / FOLDERS[0]))), step=9)
    parts = Parts([model], tied_names(model))
    optimizer = build_optimizer(parts.parameters(), SGD())
    alone = World(0, 1, torch.device("cpu"))
    files = save_state(run.child(manifest.folder), parts, optimizer, alone)
    write_manifest(run, replace(manifest, files=files))
    told = project("checkpoint", "export", "small", "--output", "out/hf")
    assert told.code == 0, told
    assert told.out.startswith("exported step 9 (sound) to ")
    return project.root / "out" / "hf", model.eval(), request.param


def test_transformers_loads_what_was_exported(exported: Any) -> None:
    """Grouped-query attention; the same logits, and nothing missing, spare or set anew."""
    from transformers import AutoModelForCausalLM

    folder, model, tied = exported
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert type(loaded).__name__ == "LlamaForCausalLM"
    tokens = torch.randint(0, 256, (3, 24))
    with torch.no_grad():
        ours, theirs = model(tokens), loaded.eval()(tokens).logits
    assert ours.std() > 0.3
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)
    same = loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    assert same == tied


def test_a_tied_weight_is_written_once(exported: Any) -> None:
    from safetensors import safe_open

    folder, _, tied = exported
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) == (not tied)  # noqa: SIM118
        assert file.metadata() == {"format": "pt"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "as readable as the rest"


def test_the_promoted_one_is_exported_and_any_other_by_its_step(trained: Trained) -> None:
    past = PastRun(Storage.open(str(trained.project.root / "runs")), "small")
    past.open(steps=6, keep=3)
    past.to_training()
    for step, loss in ((2, 3.0), (4, 2.0), (6, 2.5)):
        past.commit(step, loss)
    past.tell(ev.TrainingEnded, step=6)
    told = trained("export", "small", "-o", "best.pt", "--format", "torch", "--json").json()
    assert (told["folder"], told["step"], told["format"]) == (FOLDERS[1], 4, "torch")
    assert trained("export", "small", "-o", "last.pt", "--format", "torch", "--step", "6").code == 0
    states = []
    for name in ("best.pt", "last.pt"):
        model = GPT(layers=2, hidden=32, heads=4, kv_heads=2, ffn=64, seq_len=24).model()
        state = torch.load(trained.project.root / name, weights_only=True)
        model.load_state_dict(state)
        states.append(state)
    assert not torch.equal(states[0]["lm_head.weight"], states[1]["lm_head.weight"])


def test_nothing_of_anybodys_is_replaced_unasked(trained: Trained) -> None:
    root = trained.project.root
    assert trained("export", "small", "-o", "out").code == 0
    first = (root / "out" / "model.safetensors").read_bytes()
    told = trained("export", "small", "-o", "out", "--step", "2")
    assert told.code == 2
    assert "holds an export already" in told.err
    assert (root / "out" / "model.safetensors").read_bytes() == first
    assert trained("export", "small", "-o", "out", "--step", "2", "--force").code == 0
    assert (root / "out" / "model.safetensors").read_bytes() != first
    (root / "out" / "thesis.tex").write_text("years of work")
    told = trained("export", "small", "-o", "out", "--force")
    assert told.code == 2
    assert "holds thesis.tex, which no export wrote" in told.err
    assert (root / "out" / "thesis.tex").exists()
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == []


def test_a_damaged_checkpoint_is_not_exported(trained: Trained) -> None:
    flip(trained.run / FOLDERS[2] / "__0_0.distcp")
    told = trained("export", "small", "-o", "out", "--step", "6")
    assert told.code == 1
    assert "__0_0.distcp" in told.err
    assert not (trained.project.root / "out").exists()


def test_a_job_without_a_configuration_is_pointed_to_torch(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(GPT, "huggingface_config")
    told = trained("export", "small", "-o", "out")
    assert told.code == 2
    assert "GPT does not define huggingface_config()" in told.err
    assert "--format torch" in told.err


def test_without_a_plan_the_way_out_is_said(trained: Trained) -> None:
    (trained.run / "plan.yaml").unlink()
    told = trained("export", "runs/small", "-o", "out")
    assert told.code == 2
    assert "the plan file instead of the folder" in told.err


def test_weights_are_cut_into_files(template: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    from orchestrator.parallel.export import export_huggingface, shards_of

    assert shards_of({"a": 3, "b": 3, "c": 9, "d": 1}, 6) == [["a", "b"], ["c"], ["d"]]
    assert shards_of({}, 6) == []
    job = GPT(layers=2, hidden=32, heads=4, kv_heads=2, ffn=64, seq_len=24)
    checkpoint = Storage.open(str(template / FOLDERS[2]))
    done = export_huggingface(job, checkpoint, tmp_path / "out", shard_bytes=40_000)
    files = sorted(path.name for path in done.place.glob("*.safetensors"))
    assert len(files) >= 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((done.place / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * done.num_parameters
    assert set(index["weight_map"].values()) == set(files)
    _, info = LlamaForCausalLM.from_pretrained(done.place, output_loading_info=True)
    assert not any(info.values()), info
