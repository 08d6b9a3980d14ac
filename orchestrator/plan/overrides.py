"""What does the command line change in a plan?

``training.workers=4`` sets one value, the last one wins. The value is YAML; the path is dotted,
list elements by their index. Whether such a field exists is for the schema to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.errors import Problem
from orchestrator.plan.tree import Place, Tree, TreePath, child, dotted
from orchestrator.plan.wording import show
from orchestrator.plan.yaml_tree import read_value


def apply_overrides(tree: Tree, overrides: Iterable[str]) -> None:
    """Set each ``path=value`` in ``tree``; what cannot be set is added to its problems."""
    for text in overrides:
        _apply(tree, text)


def _apply(tree: Tree, text: str) -> None:
    file = f"command line: {text}"
    key, equals, value_text = text.partition("=")
    key = key.strip()
    if not equals or not key:
        tree.problems.append(
            Problem(
                key or "override",
                "is not an override: expected path=value",
                works="training.workers=4",
                file=file,
            )
        )
        return
    if not all(part.strip() for part in key.split(".")):
        tree.problems.append(
            Problem(key, "a dot must stand between two names", works="training.workers", file=file)
        )
        return
    parsed = read_value(value_text, file)
    if "" not in parsed.root or parsed.problems:
        tree.problems += [_at(problem, key) for problem in parsed.problems]
        return
    path = tree.path_of(key)
    problem = _set(tree, path, parsed.root[""], file)
    if problem is not None:
        tree.problems.append(problem)


def _set(tree: Tree, path: TreePath, value: Any, file: str) -> Problem | None:
    parent: Any = tree.root
    for depth, step in enumerate(path):
        here = path[: depth + 1]
        refused = _check_step(parent, path, depth, file)
        if refused is not None:
            return refused
        if depth == len(path) - 1:
            tree.forget(here)
            tree.places[here] = Place(file)
            parent[step] = value
        elif child(parent, step) is None:
            # The section is not there yet, or was turned off with null: setting one of its
            # fields asks for it.
            parent[step] = {}
            tree.places[here] = Place(file)
        parent = child(parent, step)
    return None


def _check_step(parent: Any, path: TreePath, depth: int, file: str) -> Problem | None:
    if isinstance(parent, dict):
        return None
    above, step = dotted(path[:depth]), path[depth]
    if not isinstance(parent, list):
        what = f"{above} is {show(parent)}, which has nothing inside to set"
        return Problem(dotted(path), what, file=file)
    if isinstance(step, int) and step < len(parent):
        return None
    works = f"an index from 0 to {len(parent) - 1}" if parent else f"{above}=[…]"
    what = f"{above} is a list of {len(parent)} without element {step}"
    return Problem(dotted(path), what, works=works, file=file)


def _at(problem: Problem, key: str) -> Problem:
    return Problem(key, problem.what, problem.arithmetic, problem.works, file=problem.file)
