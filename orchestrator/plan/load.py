"""What did the user ask for? From a YAML file and the command line to a frozen plan.

Reports everything that is wrong at once: where some fields cannot be understood, the rest is
still checked, apart from what depends on those fields. Looks at no other file and no cluster.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.checks import check_plan
from orchestrator.plan.fields import notes_at
from orchestrator.plan.overrides import apply_overrides
from orchestrator.plan.plan import Plan
from orchestrator.plan.schema_errors import explain, path_of
from orchestrator.plan.tree import ROOT, Tree, TreePath, child, dotted
from orchestrator.plan.yaml_tree import read_tree

_SALVAGE_ROUNDS = 8


@dataclass(frozen=True)
class LoadedPlan:
    """A plan together with where each of its values was written."""

    plan: Plan
    source: str
    """The file, as it was named."""
    locations: Mapping[str, tuple[int, int]]
    """Line and column, from 1, of every dotted path that the file holds."""
    _tree: Tree = field(repr=False, compare=False)

    def locate(self, problem: Problem) -> Problem:
        """``problem``, found later, with the place in the file that its field came from."""
        return self._tree.locate(problem)


def load_plan(path: str | Path, overrides: Sequence[str] = ()) -> LoadedPlan:
    """Read, override and check a plan.

    Raises ``PlanError`` with all problems: of the file, of the schema, and across the axes.
    """
    source = str(path)
    tree = read_tree(_read_text(Path(path), source), source)
    if tree.problems and not tree.root:
        raise PlanError(tree.problems, source)
    return _load(tree, source, overrides)


def parse_plan(text: str, overrides: Sequence[str] = (), source: str = "plan") -> LoadedPlan:
    """The same from YAML text instead of a file."""
    tree = read_tree(text, source)
    if tree.problems and not tree.root:
        raise PlanError(tree.problems, source)
    return _load(tree, source, overrides)


def _load(tree: Tree, source: str, overrides: Sequence[str]) -> LoadedPlan:
    apply_overrides(tree, overrides)
    problems = list(tree.problems)
    doubtful = {problem.where for problem in problems}
    plan, found, unknown = _validate(tree, doubtful)
    problems += found
    if plan is not None:
        problems += [tree.locate(problem) for problem in check_plan(plan, unknown)]
    if problems or plan is None:
        raise PlanError(_in_order(problems), source)
    locations = {
        dotted(path): (place.line, place.column)
        for path, place in tree.places.items()
        if path and place.line is not None and place.column is not None
    }
    return LoadedPlan(plan, source, locations, tree)


def _read_text(path: Path, source: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise PlanError([_unreadable(path, source)], source) from None
    except IsADirectoryError:
        problem = Problem(ROOT, "is a folder, not a plan file", file=source)
        raise PlanError([problem], source) from None
    except OSError as error:
        problem = Problem(ROOT, f"cannot be read: {error.strerror or error}", file=source)
        raise PlanError([problem], source) from None
    except UnicodeDecodeError as error:
        problem = Problem(ROOT, f"is not UTF-8 text: byte {error.start} is not", file=source)
        raise PlanError([problem], source) from None


def _unreadable(path: Path, source: str) -> Problem:
    near = sorted(str(p) for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    works = f"one of {', '.join(near[:5])}" if near else ""
    return Problem(ROOT, "there is no such file", works=works, file=source)


def _validate(
    tree: Tree, doubtful: Collection[str]
) -> tuple[Plan | None, list[Problem], Collection[str]]:
    """The plan, or what is left of it without the fields that cannot be understood."""
    try:
        return _parse(tree.root), [], doubtful
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        findings = explain(errors, tree)
        known = [problem for problem in findings.problems if problem.where not in doubtful]
        plan, dropped = _salvage(tree.root, errors)
        return plan, known, {*doubtful, *findings.doubtful, *dropped}


def _parse(root: Mapping[str, Any]) -> Plan:
    # Through JSON, where pydantic can be strict (no "8" or true for a number) and still takes
    # a list for a tuple.
    return Plan.model_validate_json(json.dumps(root), strict=True)


def _salvage(root: Mapping[str, Any], errors: Sequence[Any]) -> tuple[Plan | None, set[str]]:
    left: dict[str, Any] = copy.deepcopy(dict(root))
    dropped: set[str] = set()
    for _ in range(_SALVAGE_ROUNDS):
        for error in errors:
            path = path_of(error["loc"])
            dropped.add(dotted(path))
            _drop(left, path, missing=error["type"] == "missing")
        try:
            return _parse(left), dropped
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
    return None, dropped


def _drop(root: dict[str, Any], path: TreePath, missing: bool) -> None:
    """Take a field out of ``root``, or put its example where a required one is missing."""
    if not path:
        return None
    parent: Any = root
    for depth, step in enumerate(path[:-1]):
        if isinstance(child(parent, step), list):
            return _drop(root, path[: depth + 1], missing=False)
        parent = child(parent, step)
    if not isinstance(parent, dict):
        return None
    notes = notes_at(dotted(path))
    if missing and notes:
        parent[str(path[-1])] = copy.deepcopy(notes[0].example)
    else:
        parent.pop(str(path[-1]), None)
    return None


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By line, then those without one; the same problem once."""
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda problem: (problem.line is None, problem.line or 0))
