from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.plan import check_targets, parse_plan
from orchestrator.plan.static_job import check_target

pytestmark = pytest.mark.unit

GPT = """
from other import Imported as Renamed
import a.b
raise_on_import = 1 / 0 if False else 3
try:
    import fast as engine
except ImportError:
    engine = None
if True:
    class Conditional: ...
class GPT: ...
class _Hidden: ...
def rows(): ...
Alias: type = GPT
first, (second, *third) = 1, (2, 3)
def setup():
    global Late
    Late = 1
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    package = tmp_path / "jobs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "gpt.py").write_text(GPT)
    (package / "star.py").write_text("from .gpt import *\n")
    (package / "lazy.py").write_text("def __getattr__(name): ...\n")
    (package / "made.py").write_text("globals()['GPT'] = int\n")
    (package / "broken.py").write_text("class GPT\n")
    (package / "nothing.py").write_text("")
    namespace = tmp_path / "space"
    namespace.mkdir()
    (namespace / "thing.py").write_text("class Thing: ...\n")
    return tmp_path


@pytest.mark.parametrize(
    "target",
    [
        *(
            f"jobs.gpt:{name}"
            for name in ("GPT", "Renamed", "a", "engine", "Conditional", "Alias", "third", "Late")
        ),
        "jobs.star:Anything",
        "jobs.lazy:Anything",
        "jobs.made:GPT",
        "jobs:gpt",
        "space.thing:Thing",
        "json:JSONDecoder",
        "sys:path",
        "pytest:Class",
        "yaml.no_such_part:Class",
    ],
)
def test_no_false_alarm(directory: Path, target: str) -> None:
    assert check_target("job", target, directory) == ()


@pytest.mark.parametrize(
    ("target", "what", "works"),
    [
        ("jobs.gpt:Gpt", "jobs/gpt.py has no Gpt; it defines GPT, rows, setup", "jobs.gpt:GPT"),
        ("jobs.gpt:Zebra", "jobs/gpt.py has no Zebra; it defines GPT, rows, setup", ""),
        ("jobs.nothing:GPT", "jobs/nothing.py has no GPT; it defines nothing", ""),
        ("jobs.broken:GPT", "jobs/broken.py is not Python: line 1: expected ':'", ""),
        ("jobs:zebra", "jobs/__init__.py has no zebra; it defines nothing", ""),
    ],
)
def test_a_name_that_is_not_there(directory: Path, target: str, what: str, works: str) -> None:
    (problem,) = check_target("job", target, directory)
    assert (problem.where, problem.what, problem.works) == ("job", what, works)


@pytest.mark.parametrize(
    ("target", "works"),
    [
        ("jobs.gtp:GPT", "jobs.gpt"),
        ("job.gpt:GPT", "jobs.gpt"),
        ("gpt:GPT", "jobs.gpt"),
        ("space.thin:Thing", "space.thing"),
        ("zebra.crossing:Road", "the folder that holds it as working directory"),
    ],
)
def test_a_module_that_is_not_there(directory: Path, target: str, works: str) -> None:
    (problem,) = check_target("job", target, directory)
    module = target.partition(":")[0]
    assert problem.what.startswith(f"there is no module {module}: neither ")
    assert str(directory) in problem.what
    assert problem.works.startswith(works)


def test_nothing_is_imported(directory: Path) -> None:
    (directory / "fatal.py").write_text("raise SystemExit('imported')\nclass Job: ...\n")
    before = set(sys.modules)
    assert check_target("job", "fatal:Job", directory) == ()
    assert check_target("job", "jobs.gpt:GPT", directory) == ()
    assert not {"fatal", "jobs.gpt"} & (set(sys.modules) - before)


def test_both_targets_of_a_plan(directory: Path) -> None:
    plan = parse_plan(
        "name: a\njob: jobs.gpt:GTP\ndata: {source: {kind: python, target: 'jobs.gpt:row'}}\n"
    ).plan
    problems = check_targets(plan, directory)
    assert [(problem.where, problem.works) for problem in problems] == [
        ("job", "jobs.gpt:GPT"),
        ("data.source.target", "jobs.gpt:rows"),
    ]
