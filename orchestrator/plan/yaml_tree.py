"""How does YAML text become a tree with line numbers?

Nothing is ever constructed beyond dicts, lists
and scalars, so a plan file cannot run code. Keys are text, and none comes twice.
"""

from __future__ import annotations

import math
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.errors import Problem
from orchestrator.plan.tree import ROOT, Place, Tree, TreePath, dotted
from orchestrator.plan.yaml_dialect import SCALARS, TAG, PlanLoader

_LARGEST_DOCUMENT = 100_000
"""Values a document may hold once its aliases are expanded; more is a bomb, not a plan."""


def read_tree(text: str, file: str) -> Tree:
    """Parse one YAML document whose root is a mapping; whatever is wrong is in ``problems``."""
    tree = Tree(root={}, places={(): Place(file)})
    try:
        node = yaml.compose(text, Loader=PlanLoader)
    except yaml.YAMLError as error:
        tree.problems.append(_syntax_problem(error, file))
        return tree
    except RecursionError:
        tree.problems.append(Problem(ROOT, "is nested too deeply to be a plan", file=file))
        return tree
    if node is None:
        tree.problems.append(
            Problem(ROOT, "is empty", works="at least name, job and data", file=file)
        )
        return tree
    builder = _Builder(tree, file)
    root = builder.build(node, ())
    if isinstance(root, dict):
        tree.root = root
    elif not tree.problems:
        builder.refuse((), node, "is not a plan: expected keys and values, such as `name: my-run`")
    return tree


def read_value(text: str, file: str) -> Tree:
    """Parse a YAML value from a command line: ``root[""]`` holds it, if it could be parsed."""
    tree = Tree(root={}, places={(): Place(file)})
    if text.lstrip().startswith("*"):
        # There is no anchor on a command line that this could be an alias of: it is a glob.
        tree.root[""] = text.strip()
        return tree
    try:
        node = yaml.compose(text, Loader=PlanLoader)
    except yaml.YAMLError as error:
        tree.problems.append(_syntax_problem(error, file, with_lines=False))
        return tree
    builder = _Builder(tree, file, with_lines=False)
    tree.root[""] = None if node is None else builder.build(node, ())
    return tree


class _Builder:
    """Turns nodes into values and notes where each stood."""

    def __init__(self, tree: Tree, file: str, with_lines: bool = True) -> None:
        self._tree = tree
        self._file = file
        self._with_lines = with_lines
        self._open: list[int] = []
        self._count = 0

    def refuse(self, path: TreePath, node: Node, what: str, works: str = "") -> None:
        """Note a problem at ``node``."""
        place = self._place(node)
        self._tree.problems.append(
            Problem(
                dotted(path) or ROOT,
                what,
                works=works,
                file=place.file,
                line=place.line,
                column=place.column,
            )
        )

    def build(self, node: Node, path: TreePath) -> Any:
        """The value of ``node``; problems are noted and the value then is ``None``."""
        self._count += 1
        if id(node) in self._open:
            self.refuse(path, node, "contains itself through an alias")
            return None
        if self._count > _LARGEST_DOCUMENT:
            if self._count == _LARGEST_DOCUMENT + 1:
                self.refuse(path, node, f"is one of more than {_LARGEST_DOCUMENT} values")
            return None
        self._open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path) if isinstance(node, ScalarNode) else None
        finally:
            self._open.pop()

    def _place(self, node: Node) -> Place:
        if not self._with_lines:
            return Place(self._file)
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _mapping(self, node: MappingNode, path: TreePath) -> dict[str, Any] | None:
        if node.tag != f"{TAG}map":
            self._foreign_tag(node, path)
            return None
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{TAG}merge":
                merged = {**self._merge(value_node, path), **merged}
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            here = (*path, key)
            if key in own:
                first = self._tree.places[here].line
                self.refuse(here, key_node, f"comes twice; it was set on line {first} already")
                continue
            self._tree.forget(here)
            self._tree.places[here] = self._place(key_node)
            own[key] = self.build(value_node, here)
        return {**merged, **own}

    def _merge(self, node: Node, path: TreePath) -> dict[str, Any]:
        if isinstance(node, SequenceNode):
            merged: dict[str, Any] = {}
            for item in node.value:
                merged = {**self._merge(item, path), **merged}
            return merged
        value = self.build(node, path)
        if isinstance(value, dict):
            return value
        self.refuse(path, node, "<<: merges a mapping, such as *name of one")
        return {}

    def _key(self, node: Node, path: TreePath) -> str | None:
        if isinstance(node, ScalarNode) and node.tag == f"{TAG}str":
            return str(node.value)
        if isinstance(node, ScalarNode):
            quoted = f'"{node.value}"'
            self.refuse((*path, str(node.value)), node, "is a key that is not text", quoted)
        else:
            self.refuse(path, node, "has a list or a mapping as a key; keys are text")
        return None

    def _sequence(self, node: SequenceNode, path: TreePath) -> list[Any] | None:
        if node.tag != f"{TAG}seq":
            self._foreign_tag(node, path)
            return None
        values = []
        for index, item in enumerate(node.value):
            self._tree.places[*path, index] = self._place(item)
            values.append(self.build(item, (*path, index)))
        return values

    def _scalar(self, node: ScalarNode, path: TreePath) -> Any:
        convert = SCALARS.get(node.tag)
        if convert is None:
            self._foreign_tag(node, path)
            return None
        try:
            value = convert(node.value)
        except ValueError:
            self.refuse(path, node, f"{node.value!r} is not a number that can be read")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(path, node, f"{node.value} is not a finite number")
            return None
        return value

    def _foreign_tag(self, node: Node, path: TreePath) -> None:
        self.refuse(path, node, f"has the tag {node.tag}; a plan holds plain values only")


def _syntax_problem(error: yaml.YAMLError, file: str, with_lines: bool = True) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = [getattr(error, "context", None), getattr(error, "problem", None)]
    reason = ", ".join(part for part in said if part) or str(error).splitlines()[0]
    shown = mark if with_lines else None
    return Problem(
        ROOT,
        f"is not YAML: {reason}",
        works=_SYNTAX_HINTS.get(getattr(error, "problem", None) or "", ""),
        file=file,
        line=None if shown is None else shown.line + 1,
        column=None if shown is None else shown.column + 1,
    )


_SYNTAX_HINTS = {
    "found character that cannot start any token": "spaces, not tabs, to indent",
    "found a tab character that violates indentation": "spaces, not tabs, to indent",
    "mapping values are not allowed in this context": "one `key: value` a line, the same "
    "indentation within a section, and text that holds a colon in quotes",
    "did not find expected key": "the same indentation for all keys of a section",
}
