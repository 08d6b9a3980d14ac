"""References to secrets: where they may stand, what they stand for, and where that never shows."""

from __future__ import annotations

import builtins
import json
import logging
import pickle
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs
from starlette.requests import Request

from orchestrator.errors import PlanError, SecretMissing, StorageError
from orchestrator.feed.pieces import list_pieces
from orchestrator.job import Job
from orchestrator.job_import import load_job_for_mesh
from orchestrator.plan.dump import dump_plan
from orchestrator.plan.load import LoadedPlan, parse_plan
from orchestrator.runtime.bearer import Gate
from orchestrator.runtime.data_task import Errand
from orchestrator.runtime.labelled import Whose, concealed
from orchestrator.runtime.worker_log import captured
from orchestrator.secret import concealer, mask, references, resolve, resolve_all
from orchestrator.storage import Storage, redact_uri

pytestmark = pytest.mark.unit

SECRET = "s3cr3t/of+this=test"
PLAN = """
name: little
job: jobs.digits:Digits
data: {source: {kind: python, target: "jobs.digits:dataset"}}
inference: {}
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXIS_TEST_SECRET", SECRET)


def test_a_reference_stands_for_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of a file\n")
    assert resolve("a${env:AXIS_TEST_SECRET}b") == f"a{SECRET}b"
    assert resolve(f"${{file:{tmp_path}/token}}") == "of a file"
    assert resolve("$${env:AXIS_TEST_SECRET} $HOME ${HOME}") == (
        "${env:AXIS_TEST_SECRET} $HOME ${HOME}"
    )
    nested = {"a": ["${env:AXIS_TEST_SECRET}", 1], "b": {"c": "x"}}
    assert resolve_all(nested) == {"a": [SECRET, 1], "b": {"c": "x"}}


@pytest.mark.parametrize("text", ["${env:AXIS_NOT_SET}", "${file:/nowhere/at/all}"])
def test_one_that_is_not_there_is_named(text: str) -> None:
    with pytest.raises(SecretMissing) as missing:
        resolve(text)
    assert text in str(missing.value)
    assert missing.value.exit_code == 3


@given(st.text(alphabet="ab${}:env/file", max_size=40))
def test_text_without_references_is_left_alone(text: str) -> None:
    if not references(text) and "$${" not in text:
        assert resolve(text) == mask(text) == text
    assert not references(mask(text)) or "$${" in text


def test_a_storage_keeps_the_reference_and_opens_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def from_uri(uri: str) -> Any:
        seen.append(uri)
        return fs.SubTreeFileSystem("/tmp", fs.LocalFileSystem()), "bucket/runs"

    known = SimpleNamespace(
        FileSystem=SimpleNamespace(from_uri=from_uri), LocalFileSystem=fs.LocalFileSystem
    )
    monkeypatch.setattr("orchestrator.storage.uri.fs", known)
    uri = "s3://${env:AXIS_TEST_SECRET}:${file:/dev/null}@bucket/runs"
    run = Storage.open(uri).child("little")
    assert seen == [f"s3://{SECRET}:@bucket/runs"]
    assert run.uri == f"{uri}/little"
    assert run.name == "s3://bucket/runs/little"
    assert SECRET not in repr((run.uri, run.name))
    Storage.open(run.uri)
    assert seen[-1] == f"s3://{SECRET}:@bucket/runs/little", "what travels can be opened again"


def test_what_storage_refuses_does_not_tell() -> None:
    with pytest.raises(StorageError) as refused:
        Storage.open("nothing://${env:AXIS_TEST_SECRET}@bucket/x")
    assert SECRET not in str(refused.value)
    assert redact_uri("s3://${file:/a/b}:${env:X}@bucket/p") == "s3://bucket/p"


def test_the_resolved_plan_holds_references() -> None:
    overrides = (
        "options={key: '${env:AXIS_TEST_SECRET}'}", "inference.token=${env:AXIS_TEST_SECRET}",
        "storage=s3://${env:AXIS_TEST_SECRET}@bucket/runs",
    )  # fmt: skip
    text = dump_plan(parse_plan(PLAN, overrides).plan)
    assert SECRET not in text
    assert text.count("${env:AXIS_TEST_SECRET}") == 3


@pytest.mark.parametrize(
    ("override", "where", "said"),
    [
        ("inference.token=abc", "inference.token", "must not stand in a plan"),
        ("inference.host=${env:HOST}", "inference.host", "would not be looked up"),
        ("options={a: '${evn:X}'}", "options.a", "is no reference"),
        ("options={a: ['${env:}']}", "options.a.0", "names nothing"),
    ],
)
def test_a_reference_that_cannot_be_meant_is_refused(override: str, where: str, said: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_plan(PLAN, [override])
    (problem,) = refused.value.problems
    assert problem.where == where
    assert said in problem.what
    assert problem.works


class Careless(Job):
    """Tells what it was given, with the exception and where ``options`` say."""

    def __init__(self, key: str, error: str = "ValueError", where: str = "init") -> None:
        self._key = key
        self._error = getattr(builtins, error)
        self._where = where
        self._tell("init")

    def samples(self, row: Any) -> Iterator[Any]:
        self._tell("samples")
        yield {}

    def split(self) -> Any:
        self._tell("split")

    def _tell(self, where: str) -> None:
        if where == self._where:
            raise self._error(f"bad key {self._key}")


def careless(monkeypatch: pytest.MonkeyPatch, more: str, *overrides: str) -> LoadedPlan:
    monkeypatch.setitem(sys.modules, "careless", sys.modules[__name__])
    options = f"options={{key: '${{env:AXIS_TEST_SECRET}}', {more}}}"
    return parse_plan(PLAN, ("job=careless:Careless", options, *overrides))


@pytest.mark.parametrize("where", ["init", "split"])
def test_a_job_that_tells_is_concealed(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("training.workers=2", "model.tensor=2")
    loaded = careless(monkeypatch, f"where: {where}", *overrides)
    with pytest.raises(PlanError) as refused:
        load_job_for_mesh(loaded)
    assert_concealed(str(refused.value) + getattr(refused.value, "user_traceback", ""))


def test_a_data_task_that_tells_is_concealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the Job's own fault, and as one of the machine's, which Ray Data is to try again."""
    (tmp_path / "a.txt").write_text("text")
    source = f"data.source={{kind: text, path: {tmp_path}}}"

    def task(error: str) -> dict[str, bytes]:
        plan = careless(monkeypatch, f"where: samples, error: {error}", source).plan
        assert plan.data.source.kind == "text"
        group = json.dumps([astuple(piece) for piece in list_pieces(plan.data.source)])
        return Errand(plan, 1, str(tmp_path), str(tmp_path)).shard_files(
            {"shard": 0, "group": group}
        )

    told = pickle.loads(task("ValueError")["result"])
    assert_concealed(told.message)
    assert_concealed(told.traceback)
    with pytest.raises(OSError, match="ConnectionError") as refused:
        task("ConnectionError")
    assert_concealed("".join(traceback.format_exception(refused.value)))


def test_what_a_driver_prints_is_concealed(capsys: pytest.CaptureFixture[str]) -> None:
    own = (sys.stdout, sys.stderr)
    with concealed(concealer("${env:AXIS_TEST_SECRET}")):
        print("bad key", SECRET)
        print("bad key", SECRET, file=sys.stderr)
    assert (sys.stdout, sys.stderr) == own
    for told in capsys.readouterr():
        assert_concealed(told)


def assert_concealed(told: str) -> None:
    assert SECRET not in told
    assert "bad key ${env:AXIS_TEST_SECRET}" in told


@pytest.mark.parametrize("kind", ["text", "json"])
def test_what_a_worker_says_is_concealed_and_labelled(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the root logger writes to the process's own output, as a Job may have set it."""
    conceal = concealer({"key": "${env:AXIS_TEST_SECRET}", "other": 1})
    whose = Whose("little", 2, "training", 3)
    monkeypatch.setenv("AXIS_LOG_FORMAT", kind)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
    with captured(Storage.open(str(tmp_path)), "log", whose, conceal) as log:
        print("printed", SECRET)
        logging.getLogger("here").warning("logged %s", SECRET)
        log.error(f"raised {SECRET}\n")
        print("and no end", end="")
    kept, shown = (tmp_path / "log").read_text(), capsys.readouterr()
    logging.getLogger().warning("after it")
    assert capsys.readouterr().err == "after it\n", "the handler is as it was"
    assert SECRET not in kept + shown.out + shown.err
    for word in ("printed", "logged", "raised"):
        assert kept.count(f"{word} ${{env:AXIS_TEST_SECRET}}") == 1
    assert shown.err.count("logged") == 1
    if kind == "json":
        told = [json.loads(line) for line in kept.splitlines()]
        labels = {"run": "little", "attempt": 2, "axis": "training", "rank": 3}
        ways = [("INFO", "print"), ("WARNING", "here"), ("ERROR", "worker"), ("INFO", "print")]
        assert all(labels.items() <= each.items() for each in told)
        assert [(each["level"], each["logger"]) for each in told] == ways
        seen = [json.loads(line) for line in (shown.out + shown.err).splitlines()]
        assert Counter(each["logger"] for each in seen) == {"print": 2, "here": 1}


@pytest.mark.parametrize(
    ("shown", "status"), [(None, 401), ("Bearer x", 403), ("x", 403), (f"Bearer {SECRET}", None)]
)
def test_a_gate_lets_in_who_shows_its_token(shown: str | None, status: int | None) -> None:
    headers = [(b"authorization", shown.encode())] if shown is not None else []
    request = Request({"type": "http", "headers": headers})
    refused = Gate("${env:AXIS_TEST_SECRET}").refusal(request)
    assert (refused.status_code if refused else None) == status
    assert Gate(None).refusal(request) is None
