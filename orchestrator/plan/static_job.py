"""Does the Job that a plan names exist? Answered from files alone, without importing them.

Finds the module's file from the working directory and looks for the name at its top level.
What cannot be told this way (a name made at run time, a module that some import hook would
provide) is no problem here; importing it will tell.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from orchestrator.errors import Problem
from orchestrator.plan.data import PythonSource
from orchestrator.plan.plan import Plan
from orchestrator.plan.wording import nearest


def check_targets(plan: Plan, directory: Path) -> tuple[Problem, ...]:
    """The problems of all ``module:attribute`` targets of ``plan``, seen from ``directory``."""
    problems = [*check_target("job", plan.job, directory)]
    if isinstance(plan.data.source, PythonSource):
        problems += check_target("data.source.target", plan.data.source.target, directory)
    return tuple(problems)


def check_target(where: str, target: str, directory: Path) -> tuple[Problem, ...]:
    """The problem of one target, if its module or its attribute certainly does not exist."""
    module, _, attribute = target.partition(":")
    parts = module.split(".")
    file = _module_file(directory, parts)
    if file is not None:
        return tuple(_check_attribute(where, file, attribute, directory))
    if _may_come_from_elsewhere(directory, parts):
        return ()
    return (_no_module(where, parts, directory),)


def top_level_names(tree: ast.Module) -> set[str] | None:
    """The names that a module binds at its top level; ``None`` if only running it can tell."""
    names: set[str] = set()
    for statement in _flattened(tree.body):
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(statement.name)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            names.update((a.asname or a.name).partition(".")[0] for a in statement.names)
        names.update(
            node.id
            for node in _expressions(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
    names.update(n for node in ast.walk(tree) if isinstance(node, ast.Global) for n in node.names)
    made_at_run_time = names & {"*", "__getattr__"} or _writes_namespace(tree)
    return None if made_at_run_time else names


def _check_attribute(where: str, file: Path, attribute: str, directory: Path) -> Iterator[Problem]:
    shown = _relative(file, directory)
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        yield Problem(where, f"{shown} is not Python: line {error.lineno}: {error.msg}")
        return
    except (OSError, ValueError) as error:
        yield Problem(where, f"{shown} cannot be read: {error}")
        return
    names = top_level_names(tree)
    if names is None or attribute in names:
        return
    submodule = file.parent / f"{attribute}.py"
    if file.name == "__init__.py" and submodule.is_file():
        return
    module = where_target_module(file, directory)
    defined = [n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
    public = [name for name in defined if not name.startswith("_")]
    close = nearest(attribute, public, 1)
    has = f"; it defines {', '.join(public)}" if public else "; it defines nothing"
    yield Problem(
        where,
        f"{shown} has no {attribute}{has}",
        works=f"{module}:{close[0]}" if close else "",
    )


def where_target_module(file: Path, directory: Path) -> str:
    """The dotted module name of ``file`` seen from ``directory``."""
    relative = file.relative_to(directory).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return ".".join(parts)


def _module_file(directory: Path, parts: Sequence[str]) -> Path | None:
    base = directory.joinpath(*parts)
    for candidate in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if candidate.is_file():
            return candidate
    return None


def _may_come_from_elsewhere(directory: Path, parts: Sequence[str]) -> bool:
    """Whether the module's top-level package could be found outside of ``directory``."""
    local = directory / parts[0]
    if (local / "__init__.py").is_file() or local.with_suffix(".py").is_file():
        return False
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != directory.resolve()]
    if parts[0] in sys.builtin_module_names or parts[0] in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(parts[0], elsewhere)
    if spec is not None and spec.origin is not None:
        return True
    if spec is not None and not local.is_dir():
        return True
    return any(_found_by_hook(finder, parts[0]) for finder in sys.meta_path)


def _found_by_hook(finder: object, name: str) -> bool:
    """Whether an import hook, such as that of an editable installation, knows the module."""
    if finder is PathFinder:
        return False
    find = getattr(finder, "find_spec", None)
    try:
        return find is not None and find(name, None) is not None
    except Exception:
        # A foreign finder that fails here says nothing about the module.
        return True


def _no_module(where: str, parts: Sequence[str], directory: Path) -> Problem:
    known = sorted(_modules_under(directory, parts))
    same_end = [module for module in known if module.rpartition(".")[2] == parts[-1]]
    close = same_end[:2] or nearest(".".join(parts), known, 2)
    expected = "/".join(parts)
    return Problem(
        where,
        f"there is no module {'.'.join(parts)}: neither {expected}.py nor "
        f"{expected}/__init__.py is in {directory}, and it is not installed",
        works=" or ".join(close) if close else "the folder that holds it as working directory",
    )


def _modules_under(directory: Path, parts: Sequence[str]) -> Iterator[str]:
    """Modules of the folder that should hold the missing one, and of folders next to it."""
    folders = [directory, *(folder for folder in directory.glob("*") if folder.is_dir())]
    folders += [directory.joinpath(*parts[:-1])] if len(parts) > 2 else []
    for folder in folders:
        for file in folder.glob("*.py"):
            if file.stem != "__init__":
                yield where_target_module(file, directory)


def _flattened(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import, those within if, try, with and loops included."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _flattened(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _flattened(handler.body)
        for case in getattr(statement, "cases", []):
            yield from _flattened(case.body)


def _expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return iter(())
    return ast.walk(statement)


def _writes_namespace(tree: ast.Module) -> bool:
    suspicious = {"globals", "exec", "setattr", "vars"}
    return any(isinstance(node, ast.Name) and node.id in suspicious for node in ast.walk(tree))


def _relative(file: Path, directory: Path) -> str:
    return str(file.relative_to(directory)) if file.is_relative_to(directory) else str(file)
