"""Who may import whom: the layers of this repository, read from the source itself.

``cli → runtime → (coordinator, planner, parallel, observe) → feed → plan``; ray is known to the
runtime alone, torch to parallel and runtime, and what is pure does no I/O.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "orchestrator"

LEAVES = {"errors", "job", "secret", "split", "transformer", "storage"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "split": set(),
    "transformer": set(),
    "job": {"split", "transformer"},
    "secret": {"errors"},
    "storage": {"errors", "secret"},
    "plan": {"errors", "job", "secret", "split"},
    "job_import": {"errors", "job", "secret", "split", "plan"},
    "planner": {"errors", "transformer", "plan"},
    "coordinator": {"errors", "plan"},
    "render": {"errors", "plan", "planner", "coordinator"},
    "feed": {"errors", "job", "storage", "plan"},
    "parallel": {*LEAVES, "plan", "job_import", "feed"},
    "observe": {*LEAVES, "plan", "feed", "coordinator"},
    "runtime": {
        *LEAVES, "plan", "job_import", "feed", "planner", "coordinator", "parallel", "observe",
    },
    "cli": {
        *LEAVES, "plan", "job_import", "feed", "planner", "coordinator", "parallel", "observe",
        "runtime", "render",
    },
}  # fmt: skip
"""For each part, the other parts that it may import; any may import the package itself."""

HEAVY: dict[str, set[str]] = {
    "ray": {"runtime"},
    "torch": {"parallel", "runtime"},
    "pyarrow": {"storage", "feed", "parallel", "observe", "runtime"},
    "numpy": {"feed", "parallel", "observe", "runtime"},
    "pandas": set(),
    "typer": {"cli"},
    "rich": {"cli", "observe"},
    "httpx": {"runtime", "cli"},
    "sklearn": set(),
    "jobs": set(),
}
"""Libraries that only some parts may import, at the top of a module or within a function."""

PURE = {"planner", "coordinator", "render"}
IMPURE_MODULES = {
    "os", "pathlib", "time", "socket", "subprocess", "threading", "random", "shutil", "tempfile",
    "signal", "asyncio", "multiprocessing", "urllib", "http", "io",
}  # fmt: skip
"""What decisions must do without: the world is handed to them as values."""

READS_FILES = {"plan/load.py", "plan/static_job.py"}
"""The modules of plan/ that look at a file; the others are pure."""


@dataclass(frozen=True)
class Import:
    """One import statement: what, where, and whether only type checkers see it."""

    file: str
    line: int
    module: str
    for_types: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted((ROOT / PACKAGE).rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    hidden = {id(node) for block in type_checking_blocks(tree) for node in ast.walk(block)}
    file = str(path.relative_to(ROOT / PACKAGE))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, id(node) in hidden)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(path, node)
            for alias in node.names:
                yield Import(file, node.lineno, f"{base}.{alias.name}", id(node) in hidden)


def absolute(path: Path, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = path.relative_to(ROOT).parts[: -node.level]
    return ".".join([*package, *(node.module or "").split(".")]).rstrip(".")


def type_checking_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from node.body


def part_of(file: str) -> str:
    """``plan/load.py`` → ``plan``, ``errors.py`` → ``errors``, the package itself → empty."""
    first = Path(file).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


ALL = [found for path in sources() for found in imports_of(path)]


def test_there_is_something_to_check() -> None:
    assert len(ALL) > 100
    assert any(part_of(found.file) == "plan" for found in ALL)


def test_every_part_has_its_place() -> None:
    parts = {part_of(str(path.relative_to(ROOT / PACKAGE))) for path in sources()}
    assert parts - {""} <= set(MAY_IMPORT)


def test_imports_go_one_way() -> None:
    wrong = []
    for found in ALL:
        part = part_of(found.file)
        names = found.module.split(".")
        if names[0] != PACKAGE or len(names) < 2 or not part:
            continue
        imported = names[1]
        allowed = MAY_IMPORT.get(part, set())
        if imported in MAY_IMPORT and imported != part and imported not in allowed:
            wrong.append(str(found))
    assert wrong == []


def test_the_layers_have_no_cycle() -> None:
    placed: set[str] = set()
    left = dict(MAY_IMPORT)
    while left:
        free = [part for part, below in left.items() if below <= placed]
        assert free, f"a cycle among {sorted(left)}"
        placed.update(free)
        for part in free:
            del left[part]


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_heavy_libraries_are_imported_where_they_belong(library: str) -> None:
    wrong = [
        str(found)
        for found in ALL
        if found.module.split(".")[0] == library
        and not found.for_types
        and part_of(found.file) not in HEAVY[library]
    ]
    assert wrong == []


def test_what_is_pure_does_no_io() -> None:
    wrong = [
        str(found)
        for found in ALL
        if found.module.split(".")[0] in IMPURE_MODULES
        and not found.for_types
        and (
            part_of(found.file) in PURE
            or (part_of(found.file) == "plan" and found.file not in READS_FILES)
        )
    ]
    assert wrong == []


def test_jobs_use_the_public_names_alone() -> None:
    wrong = []
    for path in sorted((ROOT / "jobs").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            wrong += [f"{path.name}: {m}" for m in modules if m.startswith(f"{PACKAGE}.")]
    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "manager", "misc"}
    assert [
        str(path) for path in sources() if path.stem in vague or path.parent.name in vague
    ] == []


def test_no_module_is_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


@pytest.mark.parametrize(
    "module",
    [
        "orchestrator",
        "orchestrator.errors",
        "orchestrator.plan",
        "orchestrator.plan.load",
        "orchestrator.plan.dump",
        "orchestrator.plan.resolve",
        "orchestrator.plan.resume",
        "orchestrator.plan.static_job",
        "orchestrator.plan.mesh_choice",
        "orchestrator.plan.split_checks",
        "orchestrator.coordinator.decide",
        "orchestrator.cli.render_command",
        "orchestrator.cli.app",
    ],
)
def test_what_needs_no_cluster_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys; import {module}; "
        "print(' '.join(sorted({'ray', 'torch', 'pyarrow'} & set(sys.modules))))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []
