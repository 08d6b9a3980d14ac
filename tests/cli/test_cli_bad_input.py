"""Everything that is refused before a run begins: one message, its exit code, nothing left."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.plan import dump_plan, load_plan
from orchestrator.storage import Storage
from tests.cli.conftest import PLAN, Project, Told
from tests.observe.past_run import whole_run

pytestmark = pytest.mark.unit

SOON_SECONDS = 15.0


def assert_refused(project: Project, code: int, parts: tuple[str, ...], *arguments: str) -> Told:
    """Refused as text and as JSON, soon, saying all ``parts``, and leaving all as it was."""
    before = project.files()
    told = project(*arguments)
    assert told.code == code, told
    assert told.err.startswith("error: "), told
    assert told.out == ""
    assert "Traceback" not in told.err
    for part in parts:
        assert part in told.err, f"{part!r} is not in {told.err}"
    assert told.seconds < SOON_SECONDS
    as_json = project(*arguments, "--json")
    assert as_json.code == code, as_json
    assert as_json.err == ""
    assert as_json.out.count("\n") == 1
    error = as_json.json()
    assert (error["kind"], error["exit_code"]) == ("error", code)
    assert all(part in error["message"] for part in parts)
    assert project.files() == before
    return told


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("global_batch:", "global_bach:", ("training.global_bach  (plan.yaml:9:3)", "batch")),
        ("steps: 4", "steps: four", ("training.steps  (plan.yaml:10:3)", '"four"')),
        (
            "  port: 8000",
            "  timeout: 2 parsecs",
            ("inference.timeout  (plan.yaml:12:3)", "parsecs is not a unit of time", "ms, s, m"),
        ),
        (
            "workers: 2",
            "workers: 3",
            (
                "training.global_batch  (plan.yaml:9:3)",
                "8 = 3·2 + 2",
                "training.global_batch=6 or 9, or training.workers=2 or 4",
            ),
        ),
        (
            "  workers: 2\n  global_batch: 8\n  steps: 4\n",
            "  workers: 3\n  global_batch: 8\n  steps: 4\nmodel: {tensor: 2}\n",
            ("training.workers  (plan.yaml:8:3)", "tensor 2", "2 or 4, or model"),
        ),
        ("JOB:Tiny", "absent.job:Tiny", ("job  (plan.yaml:3:1)", "no module absent.job")),
        ("JOB:Tiny", "JOB:Tine", ("job  (plan.yaml:3:1)", "has no Tine", ":Tiny")),
    ],
)
def test_a_plan_that_cannot_be_meant(
    project: Project, command: str, old: str, new: str, parts: tuple[str, ...]
) -> None:
    project.edit(old.replace("JOB", project.job), new.replace("JOB", project.job))
    assert_refused(project, 2, parts, command, "plan.yaml")


def test_all_problems_are_told_at_once(project: Project) -> None:
    project.edit("global_batch: 8", "global_bach: 8")
    project.edit("steps: 4", "steps: 4s")
    told = project("plan", "plan.yaml", "inference.port=0")
    assert told.code == 2
    assert "3 problems" in told.err
    problems = project("plan", "plan.yaml", "inference.port=0", "--json").json()["problems"]
    assert [problem["line"] for problem in problems] == [9, 10, None]
    assert problems[2]["file"] == "command line: inference.port=0"


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.workers", ("command line: training.workers", "expected path=value")),
        ("=4", ("expected path=value", "training.workers=4")),
        ("trainig.workers=4", ("there is no such key", "works: training")),
        ("training.workers=[4", ("training.workers  (command line: training.workers=[4)",)),
        ("training.steps=0", ("training.steps  (command line: training.steps=0)",)),
    ],
)
def test_an_override_that_is_none(
    project: Project, command: str, override: str, parts: tuple[str, ...]
) -> None:
    assert_refused(project, 2, parts, command, "plan.yaml", override)


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "there is no such file"),
        ("folder", "is a folder"),
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"\x00\x01\xff\xfe binary", "not UTF-8"),
        (b"a\x00b: 1\n", "is not YAML"),
        (b"name: [little\njob: x", "is not YAML"),
        (b"name: little\n\tjob: x", "spaces, not tabs"),
        (b"- a\n- list\n", "is not a plan"),
        (b"just words", "is not a plan"),
    ],
)
def test_a_plan_file_that_is_none(
    project: Project, command: str, content: bytes | str | None, part: str
) -> None:
    if isinstance(content, bytes):
        project.write("other.yaml", content)
    elif content == "folder":
        (project.root / "other.yaml").mkdir()
    assert_refused(project, 2, ("other.yaml", part), command, "other.yaml")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "data.source.path=corpsu",
            ("data.source.path  (command line", "there is no file or folder", "/corpus"),
        ),
        (
            "data.source.glob=*.txt",
            ("data.source.glob  (command line", "no files match", "1 × .jsonl", "'**/*.jsonl'"),
        ),
        ("options.sise=3", ("options.sise", "takes no option 'sise'", "it takes: size", "works")),
        ("storage=plan.yaml", ("storage  (command line", "plan.yaml is not writable")),
        ("storage=/proc/nowhere", ("storage  (command line", "/proc/nowhere is not writable")),
        ("storage=s3x://bucket", ("storage  (command line", "s3x", "s3://bucket/folder")),
    ],
)
def test_what_a_plan_names_is_not_there(
    project: Project, override: str, parts: tuple[str, ...]
) -> None:
    """A plan that is sound by itself; only ``axis run`` looks at all that it names."""
    assert project("plan", "plan.yaml", override).code == 0
    assert_refused(project, 2, parts, "run", "plan.yaml", override)


def test_a_source_that_is_not_there_is_told_by_plan_as_well(project: Project) -> None:
    told = project("plan", "plan.yaml", "data.source.path=corpsu")
    assert (told.code, told.err) == (0, "")
    assert "warning: data.source.path: there is no corpsu" in told.out


def test_a_corpus_of_empty_files(project: Project) -> None:
    project.write("corpus/one.jsonl", "")
    project.write("corpus/two.jsonl", "")
    parts = ("data.source  (plan.yaml:5:3)", "empty corpus", "2 files of 0 bytes")
    assert_refused(project, 2, parts, "run", "plan.yaml")


def test_a_job_whose_import_raises_shows_its_own_traceback(project: Project) -> None:
    project.write(f"{project.job}.py", "def broken():\n    return 1 / 0\n\n\nTiny = broken()\n")
    before = project.files()
    told = project("run", "plan.yaml")
    assert told.code == 2
    traceback, _, message = told.err.partition("error: ")
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.rstrip().endswith("ZeroDivisionError: division by zero")
    files = [line.split('"')[1] for line in traceback.splitlines() if line.startswith("  File")]
    assert files == [str(project.root / f"{project.job}.py")] * 2
    assert "job  (plan.yaml:3:1)" in message
    assert "raised ZeroDivisionError: division by zero" in message
    error = project("run", "plan.yaml", "--json").json()
    assert error["user_traceback"].startswith("Traceback")
    assert project.files() == before


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("import absent_library\n\nTiny = None\n", "No module named 'absent_library'"),
        ("class Tiny:\n    pass\n", "not a class derived from orchestrator.Job"),
        (
            "from orchestrator import Job\n\n\nclass Tiny(Job):\n"
            "    def __init__(self):\n        raise ValueError('no such size')\n",
            "Tiny refused its options: no such size",
        ),
    ],
)
def test_a_job_that_cannot_be_built(project: Project, body: str, part: str) -> None:
    project.write(f"{project.job}.py", body)
    before = project.files()
    told = project("run", "plan.yaml")
    assert told.code == 2
    assert part in told.err
    assert project.files() == before


def test_debug_shows_our_own_traceback_too(project: Project) -> None:
    told = project("run", "plan.yaml", "data.source.path=corpsu", "--debug")
    assert told.code == 2
    assert "Traceback (most recent call last)" in told.err
    assert "orchestrator/feed/pieces.py" in told.err
    assert told.err.rstrip().splitlines()[-1].startswith("  works: ")


WHOLE = """\
from orchestrator import Job, Split


class Tiny(Job):
    def __init__(self, size: int = 3) -> None:
        self.size = size

    def samples(self, row):
        return iter(())

    def arguments(self, prepared):
        return (), {}

    def criterion(self, outputs, prepared):
        return outputs

    def split(self):
        return Split(
            blocks="layers",
            num_blocks=4,
            tensor={"layers.*.q": "colwise"},
            experts="layers.*.experts",
            sequence={"x": 1},
            divisible={
                "tensor": {"heads": 4, "kv_heads": 2, "length": 24},
                "context": {"length": 24},
                "expert": {"experts": 6},
            },
        )
"""


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("workers", "model", "parts"),
    [
        (
            4,
            "{tensor: 4}",
            ("model.tensor  (plan.yaml:14:9)", "kv_heads 2 = 4·0 + 2", "works: model.tensor=2"),
        ),
        (
            2,
            "{pipeline: 2, pipeline_schedule: interleaved-1f1b, virtual_stages: 3}",
            (
                "model.pipeline  (plan.yaml:14:9)",
                "pipeline 2 · virtual_stages 3 = 6 stages, and layers has 4 blocks",
                "model.virtual_stages=2, or model.pipeline_schedule=1f1b",
            ),
        ),
        (
            8,
            "{pipeline: 8}",
            ("pipeline 8 = 8 stages, and layers has 4 blocks", "works: model.pipeline=4"),
        ),
        (
            5,
            "{context: 5}",
            ("2 · context 5 = 10, and length 24 = 10·2 + 4", "model.context=4 training.workers=4"),
        ),
        (4, "{expert: 4}", ("experts 6 = 4·1 + 2", "works: model.expert=2")),
        (
            4,
            "{pipeline: 4, virtual_stages: 0}",
            ("model.virtual_stages  (plan.yaml:14:22)", "at least 1"),
        ),
        (
            8,
            "{pipeline: 4, replicate: 2, virtual_stages: 1}",
            (
                "global batch 8 / (replicate 2 · shard 1) = 4",
                "4 / micro_batch 2 = 2 micro-batches; 1f1b needs",
                "training.micro_batch=1 or auto, or model.pipeline_schedule=gpipe",
            ),
        ),
        (4, "{tensor: 3}", ("tensor 3", "does not divide 4 workers (4 = 3·1 + 1)")),
        (
            2,
            "{activation_checkpoint: some}",
            ("model.activation_checkpoint", "none, selective or full"),
        ),
        (2, "{pipeline_schedule: 1F1B}", ("model.pipeline_schedule", "works: 1f1b")),
        (2, "{tensor:2}", ("tensor: 2, with a space after the colon",)),
    ],
)
def test_a_mesh_that_the_model_or_the_batch_cannot_have(
    project: Project, command: str, workers: int, model: str, parts: tuple[str, ...]
) -> None:
    """Refused before anything is started, with every factor and the nearest that works."""
    project.write(f"{project.job}.py", WHOLE)
    micro = "  micro_batch: 2\n" if "replicate: 2" in model else ""
    project.edit("  workers: 2\n", f"  workers: {workers}\n{micro}")
    if workers == 5:
        project.edit("global_batch: 8", "global_batch: 10")
    project.write("plan.yaml", (project.root / "plan.yaml").read_text() + f"model: {model}\n")
    told = assert_refused(project, 2, parts, command, "plan.yaml")
    assert "plan.yaml:" in told.err


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("model.tensor=2", "says nothing about which of its layers are spread over tensor ranks"),
        ("model.pipeline=2", "says nothing about which layers a pipeline can be cut between"),
        ("model.context=2", "says nothing about which layers attend to a sequence"),
        ("model.expert=2", "says nothing about which of its modules hold experts"),
        ("model.activation_checkpoint=full", "full recomputes the model's blocks"),
    ],
)
def test_a_job_that_says_nothing_about_splitting(
    project: Project, command: str, override: str, part: str
) -> None:
    where = override.partition("=")[0]
    degree = "none" if "activation" in where else "1"
    parts = (f"{where}  (command line", part, f"works: {where}={degree}, or a split()")
    assert_refused(project, 2, parts, command, "plan.yaml", override)
    for enough in ("model={shard: 2}", "model={replicate: 2}"):
        assert project("plan", "plan.yaml", enough).code == 0


@pytest.mark.parametrize("override", ["model.pipeline=2", "model.context=2"])
def test_a_job_whose_loss_is_in_one_piece(project: Project, override: str) -> None:
    text = WHOLE.replace("def criterion", "def loss")
    project.write(f"{project.job}.py", text)
    parts = ("does not define both arguments and criterion", "criterion in place of loss")
    assert_refused(project, 2, parts, "run", "plan.yaml", override)
    assert project("plan", "plan.yaml", "model.tensor=2").code == 0


def test_a_split_that_raises_shows_the_users_traceback(project: Project) -> None:
    project.write(f"{project.job}.py", WHOLE.replace("return Split(", "return 1 / 0 or Split("))
    told = project("run", "plan.yaml", "model.tensor=2")
    assert told.code == 2
    assert told.err.startswith("Traceback")
    assert "split() raised ZeroDivisionError: division by zero" in told.err


def test_a_split_that_is_none(project: Project) -> None:
    project.write(f"{project.job}.py", WHOLE.replace("return Split(", "return dict("))
    parts = ("split() returned dict", "works: an orchestrator.Split, or None")
    assert_refused(project, 2, parts, "run", "plan.yaml", "model.tensor=2")


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use(project: Project, busy_port: int) -> None:
    project.edit("port: 8000", f"port: {busy_port}")
    parts = ("inference.port  (plan.yaml:12:3)", f"port {busy_port} of 127.0.0.1 is in use")
    told = assert_refused(project, 3, parts, "run", "plan.yaml")
    free = int(told.err.partition("inference.port=")[2].split(",")[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free))
    assert not (project.root / "runs").exists()


def test_a_host_of_another_machine(project: Project) -> None:
    host = "inference.host=192.0.2.1"
    parts = ("inference.host  (command line", "not an address of this machine", "127.0.0.1")
    assert_refused(project, 3, parts, "run", "plan.yaml", host)


def earlier_run(project: Project) -> None:
    """What a run of the plan left."""
    storage = Storage.open(str(project.root / "runs"))
    whole_run(storage, "little")
    text = dump_plan(load_plan("plan.yaml").plan)
    project.write("runs/little/plan.yaml", text.encode())


def test_a_resume_that_would_compute_something_else(project: Project) -> None:
    earlier_run(project)
    parts = ("seed  (command line: seed=1)", "changed since the run began", "0 → 1", "--fresh")
    assert_refused(project, 2, parts, "run", "plan.yaml", "seed=1")
    two = project("run", "plan.yaml", "seed=1", "training.global_batch=16", "--json").json()
    assert [problem["where"] for problem in two["problems"]] == ["seed", "training.global_batch"]


@pytest.mark.parametrize("content", [b"", b"name: [", b"\xff\xfe\x00", b"name: little\n"])
def test_an_earlier_run_whose_plan_is_damaged(project: Project, content: bytes) -> None:
    earlier_run(project)
    project.write("runs/little/plan.yaml", content)
    parts = ("runs/little/plan.yaml", "cannot be read", "--fresh moves the run aside")
    assert_refused(project, 2, parts, "run", "plan.yaml")


def test_an_earlier_run_whose_journal_is_damaged(project: Project) -> None:
    earlier_run(project)
    path = project.root / "runs/little/journal/attempt-0001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"crc32":"', b'"crc32":"0', 1))
    parts = ("the run little in", "journal/attempt-0001.jsonl:1", "--fresh moves it aside")
    assert_refused(project, 1, parts, "run", "plan.yaml")


MODELLED = """\
import torch

from orchestrator import Job


class Tiny(Job):
    def __init__(self, size: int = 3) -> None:
        self.size = size

    def samples(self, row):
        return iter(())

    def model(self):
        return torch.nn.Linear(self.size, 2)
"""
NEWEST = "step-00000200-attempt-0002"
SHAPES = {"weight": (2, 3), "bias": (2,)}


def store_manifest(project: Project, **changes: Any) -> None:
    """The manifest of the newest checkpoint that the earlier run committed."""
    manifest = CheckpointManifest(
        step=200,
        attempt=2,
        consumed=1600,
        seed=0,
        plan_hash="",
        store_hash="",
        mesh={"replicate": 2},
        metrics={},
        **{"tensors": SHAPES, **changes},
    )
    project.write(f"runs/little/checkpoints/{NEWEST}/manifest.json", manifest.to_json())


def resumable(project: Project, address: str, *overrides: str) -> Told:
    """Refused for the address alone, which is looked at after all that a resume can refuse."""
    return project("run", "plan.yaml", *overrides, "--address", address)


def test_a_checkpoint_of_a_newer_format(project: Project) -> None:
    project.write(f"{project.job}.py", MODELLED)
    earlier_run(project)
    store_manifest(project, format=99, written_by="9.0")
    parts = (NEWEST, "newer format than this version reads", "format 99", "axis-orchestrator 9.0")
    assert_refused(project, 2, parts, "run", "plan.yaml")


@pytest.mark.parametrize(
    ("shapes", "part"),
    [
        ({"weight": (2, 4), "bias": (2,)}, "weight is [2, 3] here and [2, 4] there"),
        ({"weight": (2, 3)}, "bias is not in the checkpoint"),
        ({**SHAPES, "scale": (1,)}, "scale is only in the checkpoint"),
    ],
)
def test_a_checkpoint_of_another_model(
    project: Project, shapes: dict[str, tuple[int, ...]], part: str
) -> None:
    """The class is the same and so are its options; what it builds is not."""
    project.write(f"{project.job}.py", MODELLED)
    earlier_run(project)
    store_manifest(project, tensors=shapes)
    parts = ("job  (plan.yaml:3:1)", NEWEST, "another model", part, "--fresh")
    assert_refused(project, 2, parts, "run", "plan.yaml")


@pytest.mark.parametrize("broken", [b"", b"{}", b'{"format": 99}'])
def test_a_damaged_manifest_is_left_to_those_who_load_it(
    project: Project, free_port: int, broken: bytes
) -> None:
    project.write(f"{project.job}.py", MODELLED)
    earlier_run(project)
    store_manifest(project)
    address = f"127.0.0.1:{free_port}"
    assert "no Ray cluster answers" in resumable(project, address).err
    project.write(f"runs/little/checkpoints/{NEWEST}/manifest.json", broken)
    assert "no Ray cluster answers" in resumable(project, address, "inference=null").err


def test_a_model_that_needs_numbers_to_be_built_is_compared_by_the_workers(
    project: Project, free_port: int
) -> None:
    text = MODELLED.replace("return torch.nn.Linear(self.size, 2)",
                            "return torch.nn.Linear(int(torch.ones(1).item()), 2)")  # fmt: skip
    project.write(f"{project.job}.py", text)
    earlier_run(project)
    store_manifest(project)
    assert "no Ray cluster answers" in resumable(project, f"127.0.0.1:{free_port}").err


def test_fresh_moves_nothing_aside_when_it_is_refused(project: Project, busy_port: int) -> None:
    earlier_run(project)
    before = project.files()
    for override in (f"inference.port={busy_port}", "data.source.path=corpsu", "options.sise=1"):
        told = project("run", "plan.yaml", override, "--fresh")
        assert told.code in (2, 3), told
        assert project.files() == before


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens(project: Project, free_port: int, scheme: str) -> None:
    """Ray itself would try for minutes. The run has not begun with this plan then."""
    address = f"{scheme}127.0.0.1:{free_port}"
    before = project.files()
    told = project("run", "plan.yaml", "inference=null", "--address", address)
    assert told.code == 3
    assert f"no Ray cluster answers at '{address}': " in told.err
    assert "leave --address out" in told.err
    assert told.seconds < SOON_SECONDS
    assert project.files() == before


@pytest.mark.parametrize("as_json", [False, True])
def test_a_defect_of_ours_is_told_as_one(
    project: Project, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    from orchestrator.cli import plan_command

    def broken(*_: object) -> None:
        raise KeyError("pieces")

    monkeypatch.setattr(plan_command, "plan_view", broken)
    told = project("plan", "plan.yaml", *(["--json"] if as_json else []))
    assert told.code == 1
    text = json.loads(told.out)["message"] if as_json else told.err
    assert "KeyError: 'pieces'" in text
    assert "defect of axis-orchestrator; --debug shows" in text
    assert "Traceback" not in told.out + told.err
    assert "Traceback" in project("plan", "plan.yaml", "--debug").err


words = st.sampled_from(
    ["version", "name", "job", "data", "source", "kind", "path", "training", "workers", "model"]
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), words)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=10,
)
mutations = st.tuples(st.integers(0, len(PLAN)), st.integers(0, 12), st.text(max_size=4)).map(
    lambda cut: (PLAN[: cut[0]] + cut[2] + PLAN[cut[0] + cut[1] :]).replace("JOB", "json")
)
texts = st.one_of(st.text(max_size=40), trees.map(json.dumps), mutations)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts)
def test_no_text_at_all_gives_a_traceback(project: Project, text: str) -> None:
    project.write("any.yaml", text.encode("utf-8", errors="surrogatepass"))
    told = project("plan", "any.yaml")
    assert told.code in (0, 2), told
    assert "Traceback" not in told.err
    assert told.err.startswith("error: any.yaml: ") == (told.code == 2)
