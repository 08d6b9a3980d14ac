"""What does a Job say of its model, if asking it is quick?

A Job's module is imported only where its own imports, and those of the modules beside it, promise
to be light: torch alone takes seconds, and ``axis plan`` answers in a fraction of one. The answer
is looked for in the source, before anything is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import JobError
from orchestrator.job_import import add_working_directory, concealer_of, load_job
from orchestrator.plan.plan import Plan
from orchestrator.transformer import Transformer

_LIGHT = {*sys.stdlib_module_names, "orchestrator", "numpy", "yaml", "pydantic"}
"""What a module may import and still be imported in a tenth of a second."""


@dataclass(frozen=True)
class Described:
    """What the Job says of its model; or why it was not asked, and what would let it be."""

    model: Transformer | None
    why_not: str = ""
    works: str = ""


def describe(plan: Plan, directory: Path) -> Described:
    """Ask the plan's Job, where its module lies below ``directory`` and is light. Never raises for
    what a Job does: that is told when the plan is run."""
    module = plan.job.partition(":")[0]
    file = _file(directory, module)
    if file is None:
        return Described(None, f"{module} is not in this folder, and is not imported to be asked")
    heavy = _heavy(file, directory)
    if heavy is not None:
        why = f"importing {module} would import {heavy}, which takes seconds; axis run asks it"
        return Described(None, why, f"import {heavy.partition(' ')[0]} in the methods that need it")
    add_working_directory(directory)
    try:
        found = load_job(plan).transformer()
    except JobError as error:
        return Described(None, "; ".join(problem.sentence() for problem in error.problems))
    except Exception as error:
        said = concealer_of(plan)(f"{type(error).__name__}: {error}")
        return Described(None, f"{plan.job}.transformer() raised {said}")
    if found is None or isinstance(found, Transformer):
        return Described(found)
    return Described(None, f"transformer() returned {type(found).__name__}, not a Transformer")


def _file(directory: Path, module: str) -> Path | None:
    base = directory.joinpath(*module.split("."))
    found = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in found if path.is_file()), None)


def _heavy(file: Path, directory: Path) -> str | None:
    """The first module that is imported on import and is not known to be light, with where."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except (OSError, SyntaxError, ValueError):
            return f"{path.name}, which cannot be read"
        for module in _imported(tree.body):
            beside = _file(directory, module)
            if beside is not None:
                waiting.append(beside)
            elif module.partition(".")[0] not in _LIGHT:
                where = "" if path == file else f" (by {path.stem}.py)"
                return f"{module.partition('.')[0]}{where}"
    return None


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    """Modules that running ``body`` imports; what only type checkers see is left out."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            for part in ("body", "orelse", "finalbody"):
                yield from _imported(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _imported(handler.body)
        elif isinstance(statement, ast.ClassDef):
            yield from _imported(statement.body)
