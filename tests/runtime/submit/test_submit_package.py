"""What of a working directory goes along, by git's rules and ours, and when it is too much."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import InfeasibleError
from orchestrator.plan.load import parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.runtime.submit.ignore import included_files, who_ignores
from orchestrator.runtime.submit.package import check_size, largest, missing, pack

pytestmark = pytest.mark.unit

PLAN = """
name: little
job: work:Job
storage: /mnt/runs
data: {source: {kind: text, path: corpus}}
"""


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _names(root: Path) -> list[str]:
    return [file.path for file in included_files(root)]


def _plan(text: str = PLAN, *overrides: str) -> Plan:
    return parse_plan(text, overrides).plan


def test_gitignore_is_respected_and_axisignore_has_the_last_word(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            ".gitignore": "*.log\n/runs/\ncorpus/\n",
            ".axisignore": "!corpus/\nnotes.md\n",
            "a.py": "", "a.log": "", "runs/x/plan.yaml": "", "corpus/one.txt": "one",
            "notes.md": "", "deep/runs/kept.py": "", "deep/.gitignore": "!b.log\n",
            "deep/b.log": "", "__pycache__/a.pyc": "", ".git/config": "", ".venv/bin/x": "",
        },
    )  # fmt: skip
    assert _names(tmp_path) == [
        ".axisignore", ".gitignore", "a.py", "corpus/one.txt", "deep/.gitignore", "deep/b.log",
        "deep/runs/kept.py",
    ]  # fmt: skip


def test_the_rules_of_the_repository_around_it_hold_too(tmp_path: Path) -> None:
    _write(tmp_path, {".git/config": "", ".gitignore": "*.bin\n", "sub/a.bin": "", "sub/a.py": ""})
    assert _names(tmp_path / "sub") == ["a.py"]
    assert who_ignores(tmp_path / "sub", (tmp_path / "sub" / "a.bin").resolve()) == str(
        tmp_path.resolve() / ".gitignore"
    )


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    _write(tmp_path, {"a/b.py": ""})
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "a")
    names = _names(tmp_path)
    assert "a/b.py" in names
    assert "other/b.py" in names
    assert len(names) < 10


NAMES = st.sampled_from(["a", "b", "a.log", "keep.log", "x.bin"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.sampled_from(
    [
        "*.log",
        "!keep.log",
        "a/",
        "/a",
        "b/*.bin",
        "**/x.bin",
        "!b/x.bin",
        "a/**",
        "# no",
        "*",
        "!*/",
        "/a/*",
        "!a/",
        "a/b/",
        "a/**/x.bin",
        "/b/a",
        "!a/keep.log",
        "**/b/**",
        "?.bin",
    ]
)


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git, which is not here")
@settings(max_examples=100, deadline=None)
@example(paths={"keep.log/a.log/a"}, rules=["*.log", "!keep.log"])
@given(paths=st.sets(PATHS, min_size=1, max_size=8), rules=st.lists(PATTERNS, max_size=5))
def test_it_is_what_git_would_take(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], rules: list[str]
) -> None:
    root = tmp_path_factory.mktemp("repository")
    for path in sorted(paths):
        if not any(other.startswith(f"{path}/") for other in paths):
            _write(root, {path: "x"})
    _write(root, {".gitignore": "\n".join(rules) + "\n"})
    git = ["git", "-c", "init.defaultBranch=main", "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "-q"], cwd=root, check=True, capture_output=True)
    listed = subprocess.run(
        [*git, "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert _names(root) == sorted(filter(None, listed.split("\0")))


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    _write(tmp_path / "one", {"b.py": "b", "a/c.py": "c"})
    _write(tmp_path / "two", {"a/c.py": "c", "b.py": "b"})
    for name in ("one", "two"):
        pack(tmp_path / name).write(tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["a/c.py", "b.py"]
        assert archive.read("a/c.py") == b"c"


def test_too_much_is_refused_with_what_takes_the_room(tmp_path: Path) -> None:
    _write(tmp_path, {f"data/{number:02d}": "x" * (100 * number) for number in range(1, 20)})
    _write(tmp_path, {"model.bin": "x" * 5000, "a.py": ""})
    package = pack(tmp_path)
    check_size(package, package.size_bytes + 1)
    with pytest.raises(InfeasibleError) as refused:
        check_size(package, package.size_bytes)
    text = str(refused.value)
    assert ".axisignore" in text
    rows = largest(package.files)
    assert len(rows) == 10
    assert [path for path, _ in rows[:3]] == ["data/", "model.bin", "data/19"]
    assert all(path in text for path, _ in rows)


def test_what_the_plan_needs_and_the_rules_leave_out_is_told(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {".gitignore": "corpus/\nwork.py\n", "work.py": "", "corpus/a.txt": "a", "plan.yaml": ""},
    )
    found = missing(_plan(), pack(tmp_path))
    assert [problem.where for problem in found] == ["job", "data.source.path"]
    assert all(".gitignore leaves it out" in problem.what for problem in found)
    _write(tmp_path, {".axisignore": "!corpus/\n!work.py\n"})
    assert missing(_plan(), pack(tmp_path)) == []


def test_data_outside_of_what_is_sent_is_told(tmp_path: Path) -> None:
    _write(tmp_path, {"here/work.py": "", "corpus/a.txt": "a"})
    found = missing(_plan(PLAN, "data.source.path=../corpus"), pack(tmp_path / "here"))
    assert "outside the working directory" in found[0].what
    absolute = missing(_plan(PLAN, f"data.source.path={tmp_path}"), pack(tmp_path / "here"))
    assert absolute == [], "a path of the nodes is theirs to know"


def test_the_plan_goes_along_whatever_the_rules_say(tmp_path: Path) -> None:
    _write(tmp_path, {".gitignore": "*.yaml\n", "plan.yaml": PLAN, "other.yaml": ""})
    assert pack(tmp_path, always=[tmp_path / "plan.yaml"]).holds("plan.yaml")
    assert not pack(tmp_path).holds("plan.yaml")
