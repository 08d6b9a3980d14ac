"""What does the file say, and on which line does it say it?

A tree holds plain dicts, lists and scalars, and a place for every path in it. It does not know
what a plan is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import Problem

ROOT = "plan file"
"""What a problem of the file as a whole names as its place."""

TreePath = tuple[str | int, ...]
"""The keys and list indices from the root to a value."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written; ``line`` and ``column`` count from 1."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass
class Tree:
    """A document under construction: its values, their places, and what was wrong with it."""

    root: dict[str, Any]
    places: dict[TreePath, Place]
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: TreePath) -> Place | None:
        """Where ``path`` was written, or the nearest section around it that was."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return None

    def locate(self, problem: Problem) -> Problem:
        """``problem`` with the place of its field filled in, unless it has one."""
        place = None if problem.file else self.place(self.path_of(problem.where))
        if place is None:
            return problem
        return replace(problem, file=place.file, line=place.line, column=place.column)

    def path_of(self, dotted: str) -> TreePath:
        """The path that ``dotted`` names, with list indices as numbers where a list stands."""
        path: TreePath = ()
        value: Any = self.root
        for part in dotted.split(".") if dotted else ():
            step: str | int = int(part) if isinstance(value, list) and part.isdigit() else part
            path += (step,)
            value = child(value, step)
        return path

    def at(self, path: TreePath) -> Any:
        """The value at ``path``; ``None`` where there is none."""
        value: Any = self.root
        for step in path:
            value = child(value, step)
        return value

    def forget(self, path: TreePath) -> None:
        """Drop the places at and below ``path``."""
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]


def child(value: Any, step: str | int) -> Any:
    """``value[step]``, or ``None`` where there is no such thing."""
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
        return value[step]
    return None


def dotted(path: TreePath) -> str:
    """``training.optimizer.betas.0``."""
    return ".".join(str(step) for step in path)
