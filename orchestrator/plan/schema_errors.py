"""What does a schema error mean in a person's words?

Turns what pydantic reports into problems: the dotted path without the names of union members,
the place in the file, and a sentence with the nearest thing that works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import ErrorDetails

from orchestrator.errors import Problem
from orchestrator.plan.fields import kinds_at, notes_at
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sentences import in_flow, sentence
from orchestrator.plan.tree import Tree, TreePath, dotted
from orchestrator.plan.unknown_keys import unknown_key


@dataclass
class SchemaFindings:
    """The problems of a tree, and the dotted paths whose values therefore are not known."""

    problems: list[Problem] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)


def explain(errors: Sequence[ErrorDetails], tree: Tree) -> SchemaFindings:
    """Put pydantic's errors about ``tree`` into words."""
    findings = SchemaFindings()
    meant: set[str] = set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            path = path_of(error["loc"])
            problem, candidates = unknown_key(path, _kind_at(tree, path[:-1]))
            findings.problems.append(tree.locate(problem))
            meant.update(candidates)
    for error in errors:
        path = path_of(error["loc"])
        findings.doubtful.add(dotted(path))
        if error["type"] == "extra_forbidden":
            continue
        # `nmae: x` is one mistake, not an unknown key and a missing one.
        if error["type"] == "missing" and dotted(path) in meant:
            continue
        findings.problems.append(tree.locate(_in_words(error, path, tree)))
    findings.doubtful |= meant
    return findings


def path_of(loc: Sequence[str | int]) -> TreePath:
    """The path of a pydantic location, without the tags of discriminated unions."""
    path: TreePath = ()
    tagged: set[TreePath] = set()
    for step in loc:
        if path not in tagged and step in kinds_at(dotted(path)):
            tagged.add(path)
        else:
            path += (step,)
    return path


def _kind_at(tree: Tree, path: TreePath) -> str | None:
    kinds = kinds_at(dotted(path))
    if not kinds:
        return None
    value = tree.at((*path, "kind"))
    return value if value in kinds else kinds[0]


def _in_words(error: ErrorDetails, path: TreePath, tree: Tree) -> Problem:
    where, value, context = dotted(path), tree.at(path), error.get("ctx", {})
    if error["type"] == "value_error" and isinstance(context.get("error"), Refusal):
        refusal: Refusal = context["error"]
        return refusal.problem(where)
    notes = notes_at(where)
    if error["type"] == "missing" or (value is None and notes and notes[0].required):
        return _missing(where, path, tree)
    if error["type"] == "union_tag_invalid" and isinstance(value, dict):
        where += ".kind"
    what, works = sentence(error["type"], value, context, error["msg"])
    return Problem(where, what, works=works)


def _missing(where: str, path: TreePath, tree: Tree) -> Problem:
    if isinstance(tree.at(path[:-1]), list):
        return Problem(dotted(path[:-1]), f"the list is too short: it has no element {path[-1]}")
    notes = notes_at(where)
    about = f": {notes[0].description}" if notes and notes[0].description else ""
    example = notes[0].example if notes else None
    works = f"{path[-1]}: {in_flow(example)}" if example is not None else ""
    lacks = "is empty" if path[-1] in (tree.at(path[:-1]) or {}) else "is missing"
    return Problem(where, f"{lacks}{about}", works=works)
