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
from orchestrator.plan.mesh import SHORT_NAMES
from orchestrator.plan.model import Model
from orchestrator.plan.plan import Plan
from orchestrator.plan.wording import choice, show

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

RESEEDING: tuple[str, ...] = ("tensor", "pipeline", "context")
"""Degrees on which the random numbers depend that a model draws in training."""

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
    yield from _steps_note(old, new)
    yield from _mesh_note(old, new)
    yield from _limits_note(old, new)


def _steps_note(old: Plan, new: Plan) -> Iterator[str]:
    before, after = old.training.steps, new.training.steps
    if before == after:
        return
    note = f"training.steps changed: {before} → {after}"
    decay = new.training.schedule.decay
    if decay != "none":
        note += f"; the {decay} decay of the learning rate now ends at step {after}"
    yield note


def _mesh_note(old: Plan, new: Plan) -> Iterator[str]:
    """A change of how the model is laid over workers reshards the checkpoint; nothing is lost."""
    then, now = _cut(old.model), _cut(new.model)
    changed = [
        f"model.{name} {then[name]} → {now[name]}" for name in now if then[name] != now[name]
    ]
    if changed:
        yield f"{', '.join(changed)}: the checkpoint is resharded; batch and order stay the same"
    random = [f"model.{name}" for name in RESEEDING if then[name] != now[name]]
    if old.training.micro_batch != new.training.micro_batch:
        random.append("training.micro_batch")
    if random:
        yield (
            "random numbers that the model draws in training (dropout) are others than before: "
            f"they depend on {choice(random, 'and')}"
        )


def _cut(model: Model) -> dict[str, int]:
    return {name: getattr(model, name) for name in SHORT_NAMES}


def _limits_note(old: Plan, new: Plan) -> Iterator[str]:
    """From here on other steps are skipped, or a run ends where it went on."""
    before, after = old.training.non_finite, new.training.non_finite
    if before != after:
        yield (
            f"training.non_finite changed: {before.max_skips} skips, then {before.then} → "
            f"{after.max_skips} skips, then {after.then}; it counts from here on"
        )
