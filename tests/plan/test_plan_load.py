from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import PlanError, Problem
from orchestrator.plan import load_plan, parse_plan

pytestmark = pytest.mark.unit

Find = Callable[..., dict[str, Problem]]


def test_a_full_plan_with_its_lines(tmp_path: Path, full_text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(full_text)
    loaded = load_plan(path)
    assert loaded.source == str(path)
    assert loaded.plan.training.workers.max == 4
    assert loaded.plan.training.optimizer.lr == 3e-4
    assert loaded.plan.inference is not None
    assert loaded.plan.inference.slo.p99 == 0.05
    assert loaded.plan.coordination.gang.timeout == 120.0
    assert loaded.locations["training.workers"] == (10, 3)
    assert loaded.locations["training.workers.1"] == (10, 16)
    assert loaded.locations["training.optimizer.lr"] == (14, 28)


def test_a_later_problem_gets_its_place(full_text: str) -> None:
    loaded = parse_plan(full_text, ["data.shards=9"], "plan.yaml")
    written = loaded.locate(Problem("data.source.path", "does not exist"))
    assert (written.file, written.line, written.column) == ("plan.yaml", 7, 24)
    default = loaded.locate(Problem("training.micro_batch", "too much"))
    assert (default.file, default.line) == ("plan.yaml", 9)
    override = loaded.locate(Problem("data.shards", "too many"))
    assert (override.file, override.line) == ("command line: data.shards=9", None)


def test_a_typo_in_a_key(find_problems: Find, full_text: str) -> None:
    found = find_problems(text=full_text.replace("global_batch", "global_bach"))
    assert list(found) == ["training.global_bach"]
    problem = found["training.global_bach"]
    assert problem.render().splitlines() == [
        "training.global_bach  (plan.yaml:12:3)",
        "  there is no such key",
        "  works: training.global_batch",
    ]


@pytest.mark.parametrize(
    ("override", "works"),
    [
        ("global_batch=3", "training.global_batch"),
        ("training.shards=3", "data.shards"),
        ("training.num_workers=3", "training.workers"),
        ("tp=2", "model.tensor"),
        ("training.lr=3", "training.optimizer.lr"),
        ("training.resources.num_gpus=1", "training.resources.gpu"),
        ("training.globalBatch=3", "training.global_batch"),
        ("optimiser={}", "training.optimizer"),
        ("seeed=3", "seed"),
        ("inference.max_batchsize=3", "inference.max_batch_size"),
    ],
)
def test_where_a_key_belongs(find_problems: Find, override: str, works: str) -> None:
    (problem,) = find_problems(override).values()
    assert problem.works == works
    assert problem.file == f"command line: {override}"


def test_a_key_that_resembles_nothing_lists_those_that_exist(find_problems: Find) -> None:
    (problem,) = find_problems("coordination.gang.zebra=1").values()
    assert (
        problem.works == "the keys of coordination.gang are timeout, attempts, placement, topology"
    )


def test_a_key_of_another_kind(find_problems: Find) -> None:
    (problem,) = find_problems("data.source.delimiter=;").values()
    assert problem.what == "is a key of kind csv, not of text"


def test_a_key_of_a_later_version(find_problems: Find) -> None:
    (problem,) = find_problems("intelligence={agents: 3}").values()
    assert "later version" in problem.what


def test_a_wrong_unit(find_problems: Find, full_text: str) -> None:
    found = find_problems(text=full_text.replace("2m", "2min").replace("50ms", "50 bananas"))
    assert found["coordination.gang.timeout"].works == "2m"
    assert found["coordination.gang.timeout"].line == 21
    assert "units are us, ms, s, m, h, d" in found["inference.slo.p99"].what


def test_workers_that_the_mesh_does_not_fill(find_problems: Find) -> None:
    (problem,) = find_problems("training.workers=3", "model.tensor=2").values()
    assert problem.where == "training.workers"
    assert problem.arithmetic == (
        "replicate 1 · tensor 2 · pipeline 1 · context 1 = 2 does not divide 3 workers "
        "(3 = 2·1 + 1)"
    )
    assert problem.works == "training.workers=2 or 4, or model.tensor=1"


def test_a_batch_that_does_not_divide(find_problems: Find) -> None:
    (problem,) = find_problems("training.workers=3").values()
    assert problem.where == "training.global_batch"
    assert (problem.file, problem.line) == ("plan.yaml", 12)
    assert problem.works == "training.global_batch=30 or 33, or training.workers=2 or 4"


def test_everything_at_once(find_problems: Find, full_text: str) -> None:
    text = full_text.replace("  shards: 8", "  shard: 8").replace("2m", "2min")
    found = find_problems(
        "model.tensor=2", "training.workers=3", "data.holdout=0", "job=jobs/gpt.py:GPT", text=text
    )
    assert set(found) == {
        "data.shard",
        "coordination.gang.timeout",
        "training.workers",
        "data.holdout",
        "job",
    }
    assert found["job"].works == "jobs.gpt:GPT"


def test_checks_wait_for_what_they_read(find_problems: Find, full_text: str) -> None:
    """With the batch unknown, nothing is said about whether it divides."""
    text = full_text.replace("global_batch: 32", "global_batch: many")
    assert set(find_problems("training.workers=3", text=text)) == {"training.global_batch"}
    misspelt = full_text.replace("global_batch: 32", "globl_batch: 33")
    assert set(find_problems("training.workers=3", text=misspelt)) == {"training.globl_batch"}


def test_problems_come_in_the_order_of_the_file(full_text: str) -> None:
    text = full_text.replace("2m", "2min").replace("version: 1", "version: 2")
    with pytest.raises(PlanError) as caught:
        parse_plan(text, ["data.shards=0"], "plan.yaml")
    assert [problem.line for problem in caught.value.problems] == [1, 21, None]


@pytest.mark.parametrize(
    ("override", "what", "works"),
    [
        ("data.shards=8.0", "expected a whole number, not 8.0", "8"),
        ('data.shards="8"', "expected a whole number, not text in quotes", "8"),
        ("data.shards=true", "expected a whole number, not true", ""),
        ("data.shards=0", "must be at least 1, not 0", "1"),
        ("data.holdout=1", "must be less than 1, not 1", ""),
        ("training.optimizer.lr=0", "must be more than 0, not 0", ""),
        ("training.optimizer.lr=fast", 'expected a number, not "fast"', ""),
        ("training.optimizer.betas=[0.9]", "the list is too short: it has no element 1", ""),
        ("training.optimizer.betas=[0.9, 0.9, 0.9]", "the list is too long", ""),
        ("training.optimizer.betas=0.9", "expected a list, not 0.9", ""),
        ("training.precision=fp16", 'expected fp32 or bf16, not "fp16"', "bf16"),
        ("training.workers=[4, 2]", "in [4, 2] the first number is the minimum", "[2, 4]"),
        ("training.workers=0", "at least 1 is needed, not 0", "1"),
        ("training.workers=two", 'expected a count such as 4, or a range such as [2, 4], not "two"',
         ""),
        ("training.workers=1000000", "1000000 is more than the 100000 that can be asked for", ""),
        ("training.micro_batch=half", "expected auto or a whole number from 1, such as 50, "
         'not "half"', ""),
        ("training=null", "is an empty section", "keys below it, or without it"),
        ("training.resources=3", "expected a section of keys, not 3", ""),
        ("storage=7", "expected text, not 7", '"7"'),
        ("storage=''", "must not be empty", ""),
        ("version=2", "expected 1, not 2", "1"),
        ("seed=-1", "must be at least 0, not -1", "0"),
        ("model.tensor=0", "expected a degree: a whole number from 1, or -1 for the rest of the "
         "workers, not 0", "1 (not split along this dimension)"),
        ("model.pipeline_schedule=1F1B", 'expected gpipe, 1f1b or interleaved-1f1b, not "1F1B"',
         "1f1b"),
        ("model.pipeline_schedule=zero-bubble",
         'expected gpipe, 1f1b or interleaved-1f1b, not "zero-bubble"', ""),
        ("model.virtual_stages=0", "must be at least 1, not 0", "1"),
        ("model.virtual_stages=-1", "must be at least 1, not -1", "1"),
        ("model.activation_checkpoint=true", "expected none, selective or full, not true", ""),
        ("model.activation_checkpoint=selectiv", 'expected none, selective or full, not "selectiv"',
         "selective"),
        ("training.non_finite.max_skips=-1", "must be at least 0, not -1", "0"),
        ("training.non_finite.then=ignore", 'expected stop or rollback, not "ignore"', ""),
        ("training.non_finite.max_rollbacks=0", "must be at least 1, not 0", "1"),
        ("training.non_finite=3", "expected a section of keys, not 3", ""),
        ("coordination.checkpoint.keep_best=0", "must be at least 1, not 0", "1"),
        ("coordination.checkpoint.asynchronous=1", "expected true or false, not 1", "true"),
        ("training.log_samples=no", 'expected true or false, not "no"', "false"),
        ("training.log_samples=maybe", 'expected true or false, not "maybe"', ""),
        ("coordination.checkpoint.mtbf=0s", '"0s" leaves no time at all',
         "a duration such as 2m"),
        ("coordination.hang_timeout=5 minutes", '"5 minutes": minutes is not a unit of time; units '
         "are us, ms, s, m, h, d", "5m"),
        ("model.expert=-1", "must be at least 1, not -1", "1"),
        ("name=My_Run 1", '"My_Run 1" is not a name: only lower-case letters, digits and dashes, '
         "starting with a letter and not ending with a dash", "my-run-1"),
        ("name=" + "x" * 50, "the name has 50 characters; at most 47 fit everywhere", "x" * 47),
        ("job=jobs.gpt.GPT", '"jobs.gpt.GPT" is not of the form module:Class, such as jobs.gpt:GPT',
         "jobs.gpt:GPT"),
        ("data.source.encoding=utf9", 'Python knows no text encoding "utf9"', "utf-8"),
        ("coordination.gang.timeout=0s", '"0s" leaves no time at all', "a duration such as 2m"),
    ],
)  # fmt: skip
def test_one_wrong_value(find_problems: Find, override: str, what: str, works: str) -> None:
    (problem,) = find_problems(override).values()
    assert problem.where == override.partition("=")[0]
    assert (problem.what, problem.works) == (what, works)
    assert problem.file == f"command line: {override}"


@pytest.mark.parametrize(
    ("override", "works"),
    [
        ("model.pipeline_parallel_schedule=1f1b", "model.pipeline_schedule"),
        ("model.num_stages=2", "model.virtual_stages"),
        ("model.activation_checkpointing=full", "model.activation_checkpoint"),
        ("training.max_skips=3", "training.non_finite.max_skips"),
        ("training.pipeline_parallel_microbatch_size=1", "training.micro_batch"),
        ("coordination.mtbf=1h", "coordination.checkpoint.mtbf"),
        ("model.tp=2", "model.tensor"),
    ],
)
def test_a_key_that_is_called_otherwise_or_lives_elsewhere(
    find_problems: Find, override: str, works: str
) -> None:
    (problem,) = find_problems(override).values()
    assert problem.what.startswith("there is no such key")
    assert works in problem.works


def test_a_colon_without_a_space_is_told_as_such(find_problems: Find) -> None:
    (problem,) = find_problems("model={tensor:2}").values()
    assert problem.works == "tensor: 2, with a space after the colon"


def test_an_unknown_kind(find_problems: Find) -> None:
    (problem,) = find_problems("data.source.kind=txt").values()
    assert problem.where == "data.source.kind"
    assert problem.what == 'there is no kind "txt"; kinds are text, jsonl, csv, parquet, python'
    assert problem.works == "kind: text"


def test_a_source_must_say_its_kind_and_an_optimizer_need_not(find_problems: Find) -> None:
    text = "name: a\njob: a:B\ndata:\n  source: {path: corpus}\n"
    (problem,) = find_problems(text=text).values()
    assert problem.where == "data.source"
    assert problem.line == 4
    loaded = parse_plan(text, ["data.source.kind=csv", "training.optimizer.lr=1e-3"])
    assert loaded.plan.training.optimizer.kind == "adamw"
    assert loaded.plan.training.optimizer.lr == 1e-3


def test_missing_fields_say_what_they_are(find_problems: Find) -> None:
    found = find_problems(text="storage: runs\n")
    assert set(found) == {"name", "job", "data"}
    assert found["job"].what == (
        "is missing: The user's Job as module:Class, importable from the working directory."
    )
    assert found["job"].works == "job: jobs.gpt:GPT"
    assert found["data"].works == "data: {source: {kind: text, path: corpus}}"


def test_an_empty_required_section_is_not_called_optional(find_problems: Find) -> None:
    found = find_problems(text="name: a\njob: a:B\ndata:\n")
    assert found["data"].what.startswith("is empty: The data axis")
    assert found["data"].line == 3


def test_a_misspelt_required_key_is_one_problem(find_problems: Find, full_text: str) -> None:
    found = find_problems(text=full_text.replace("name: gpt", "nmae: gpt"))
    assert list(found) == ["nmae"]
    assert found["nmae"].works == "name"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("", "is empty", None),
        ("# nothing\n", "is empty", None),
        ("- a\n- b\n", "is not a plan: expected keys and values, such as `name: my-run`", 1),
        ("just words\n", "is not a plan: expected keys and values, such as `name: my-run`", 1),
        ("name: a\ndata: [1\njob: b\n", "is not YAML", 3),
        ("name: a\n\tjob: b\n", "is not YAML", 2),
        ("a: 1\n---\nb: 2\n", "is not YAML: expected a single document in the stream", 2),
    ],
)
def test_what_is_not_a_plan_file(text: str, what: str, line: int | None) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text, (), "plan.yaml")
    (problem,) = caught.value.problems
    assert problem.where == "plan file"
    assert problem.what.startswith(what)
    assert problem.line == line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("name: a")
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    for name, what in {
        "plan.yaml": "there is no such file",
        ".": "is a folder, not a plan file",
        "bytes.yaml": "is not UTF-8 text: byte 6 is not",
        "other.yaml/plan.yaml": "cannot be read: Not a directory",
    }.items():
        with pytest.raises(PlanError) as caught:
            load_plan(tmp_path / name)
        (problem,) = caught.value.problems
        assert problem.what == what
        assert problem.file == str(tmp_path / name)
    with pytest.raises(PlanError, match=r"other\.yaml"):
        load_plan(tmp_path / "plan.yaml")


def test_a_byte_order_mark_is_no_letter(tmp_path: Path, full_text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + full_text.encode())
    assert load_plan(path).plan.name == "gpt-stdlib"


def test_loading_is_quick_once_the_schema_is_there(full_text: str) -> None:
    parse_plan(full_text)
    start = time.perf_counter()
    for _ in range(10):
        parse_plan(full_text)
    assert (time.perf_counter() - start) / 10 < 0.05


def test_importing_the_package_is_light() -> None:
    """The names load on first use, so that a small module of the package costs little."""
    code = (
        "import sys, orchestrator.plan;"
        "assert 'pydantic' not in sys.modules and 'yaml' not in sys.modules;"
        "from orchestrator.plan import load_plan, json_schema;"
        "assert {'ray', 'torch', 'pyarrow', 'numpy'}.isdisjoint(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_public_name_exists() -> None:
    import orchestrator.plan as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name  # type: ignore[attr-defined]
