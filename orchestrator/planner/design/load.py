"""What does a workload file say? From YAML text to a frozen workload.

Reports everything that is wrong at once, each with its line and the nearest name that exists. It
reads no file: the text is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import PlanError, Problem
from orchestrator.plan.overrides import apply_overrides
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sentences import sentence
from orchestrator.plan.tree import ROOT, Tree, dotted
from orchestrator.plan.wording import choice, nearest, similarity
from orchestrator.plan.yaml_tree import read_tree
from orchestrator.planner.design.checks import check_workload
from orchestrator.planner.design.defaults import Default, defaults_of
from orchestrator.planner.design.known_device import fill_machine
from orchestrator.planner.design.workload import Workload

WORKLOAD_FILE = "workload file"
"""What a problem of the file as a whole names as its place."""


@dataclass(frozen=True, slots=True)
class LoadedWorkload:
    """A workload, where it came from, and what was not said in it."""

    workload: Workload
    source: str
    defaults: tuple[Default, ...]


def parse_workload(
    text: str, overrides: Sequence[str] = (), source: str = "workload"
) -> LoadedWorkload:
    """Read, override and check a workload. Raises ``PlanError`` with all problems."""
    tree = read_tree(text, source)
    apply_overrides(tree, overrides)
    problems = [_of_a_workload(problem) for problem in tree.problems]
    if problems:
        raise PlanError(problems, source)
    filled = _filled(tree, source)
    try:
        workload = Workload.model_validate_json(json.dumps(tree.root), strict=True)
    except ValidationError as error:
        raise PlanError(_explain(error, tree), source) from None
    problems = [tree.locate(problem) for problem in check_workload(workload)]
    if problems:
        raise PlanError(sorted(problems, key=lambda p: p.line or 0), source)
    own = [each for each in defaults_of(workload) if each.section != "machine"]
    machine = [each for each in defaults_of(workload) if each.section == "machine"]
    return LoadedWorkload(workload, source, (*machine, *filled, *own))


def _filled(tree: Tree, source: str) -> list[Default]:
    """What a known accelerator says of the machine; its problems have their place in the file."""
    try:
        return fill_machine(tree.root)
    except PlanError as error:
        raise PlanError([tree.locate(problem) for problem in error.problems], source) from None


def _of_a_workload(problem: Problem) -> Problem:
    where = WORKLOAD_FILE if problem.where == ROOT else problem.where
    what = problem.what.replace("a plan", "a workload")
    works = problem.works.replace("name, job and data", "a name and what is asked for")
    return Problem(
        where, what, problem.arithmetic, works, problem.file, problem.line, problem.column
    )


def _explain(error: ValidationError, tree: Tree) -> list[Problem]:
    errors = error.errors(include_url=False, include_input=False)
    # `nmae: x` is one mistake, not an unknown key and a missing one.
    unknown = [_unknown(found) for found in errors if found["type"] == "extra_forbidden"]
    meant = {path for _, paths in unknown for path in paths}
    problems = [problem for problem, _ in unknown]
    problems += [
        _in_words(found, tree)
        for found in errors
        if found["type"] != "extra_forbidden" and dotted(found["loc"]) not in meant
    ]
    return sorted((tree.locate(p) for p in problems), key=lambda p: p.line or 0)


def _in_words(error: ErrorDetails, tree: Tree) -> Problem:
    where, context = dotted(error["loc"]), error.get("ctx", {})
    cause = context.get("error")
    if error["type"] == "value_error" and isinstance(cause, Refusal):
        return cause.problem(where)
    if error["type"] == "missing":
        return Problem(where, f"is missing: {_meaning(where)}")
    what, works = sentence(error["type"], tree.at(error["loc"]), context, error["msg"])
    return Problem(where, what, works=works)


def _unknown(error: ErrorDetails) -> tuple[Problem, tuple[str, ...]]:
    *above, name = error["loc"]
    section = dotted(tuple(above))
    known = _fields().get(section, ())
    near = [_joined(section, field) for field in nearest(str(name), known)]
    if not near:
        near = _elsewhere(str(name))
    works = choice(near) if near else f"one of {', '.join(known)}"
    return Problem(dotted(error["loc"]), "there is no such key", works=works), tuple(near)


def _elsewhere(name: str) -> list[str]:
    """Fields of other sections that look like ``name``, the likest first."""
    found = [
        (similarity(name, field), _joined(place, field))
        for place, fields in _fields().items()
        for field in nearest(name, fields, 1)
    ]
    best = max((alike for alike, _ in found), default=0.0)
    return [path for alike, path in found if alike == best][:2]


def _joined(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _fields() -> dict[str, tuple[str, ...]]:
    """The names of the fields in every section, by its dotted path."""
    return {path: tuple(part.model_fields) for path, part in _sections(Workload, "")}


def _sections(part: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, part
    for name, info in part.model_fields.items():
        for inner in (info.annotation, *get_args(info.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _sections(inner, _joined(path, name))


def _meaning(where: str) -> str:
    section, _, name = where.rpartition(".")
    part = dict(_sections(Workload, "")).get(section, Workload)
    info = part.model_fields.get(name)
    return " ".join(((info.description if info else "") or "").replace("``", "").split())
