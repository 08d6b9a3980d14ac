"""May a run that began with one plan go on with another?

Whatever would change what is computed is refused, field by field; what only changes where,
how fast or how safely it is computed is free. Knows nothing of how far the run has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Problem
from orchestrator.plan.dump import plan_values
from orchestrator.plan.plan import Plan
from orchestrator.plan.wording import show

COMPUTED: tuple[str, ...] = (
    "version",
    "job",
    "options",
    "seed",
    "data",
    "training.global_batch",
    "training.optimizer",
    "training.schedule",
    "training.precision",
    "training.max_norm",
    "training.evaluate",
)
"""Fields that decide what is computed."""

FREE: tuple[str, ...] = ("data.tasks", "data.resources", "data.max_bad_files")
"""Fields within these that do not."""

_ABSENT = object()


@dataclass(frozen=True)
class ResumeVerdict:
    """Problems that refuse the resume, and notes on changes that are allowed but matter."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def resume_changes(old: Plan, new: Plan) -> ResumeVerdict:
    """Compare the plan a run began with, ``old``, with the one that is to continue it."""
    changes = list(_changes(plan_values(old), plan_values(new), ()))
    problems = [
        _problem(".".join(path), before, after)
        for path, before, after in changes
        if _decides(".".join(path))
    ]
    return ResumeVerdict(tuple(problems), tuple(_notes(old, new)))


def _decides(path: str) -> bool:
    return _within(path, COMPUTED) and not _within(path, FREE)


def _within(path: str, fields: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in fields)


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if old.get("kind") != new.get("kind"):
        # The fields of two kinds of section cannot be compared one by one.
        yield (*path, "kind"), old.get("kind", _ABSENT), new.get("kind", _ABSENT)
        return
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, (*path, key))
        elif before != after or type(before) is not type(after):
            yield (*path, key), before, after


def _problem(where: str, before: Any, after: Any) -> Problem:
    return Problem(
        where,
        "changed since the run began, and would change what it computes",
        f"{_show(before)} → {_show(after)}",
        f"{_show(before)}; `--fresh` starts anew, and another name begins another run",
    )


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    return str(value) if isinstance(value, (list, dict)) else show(value)


def _notes(old: Plan, new: Plan) -> Iterator[str]:
    before, after = old.training.steps, new.training.steps
    if before == after:
        return
    note = f"training.steps changed: {before} → {after}"
    decay = new.training.schedule.decay
    if decay != "none":
        note += f"; the {decay} decay of the learning rate now ends at step {after}"
    yield note
