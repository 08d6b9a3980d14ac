"""What does a schema error in a specification or hardware file mean in a person's words?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Problem
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sentences import sentence
from orchestrator.plan.wording import choice, nearest


def schema_problems(
    error: ValidationError, model: type[BaseModel], values: Any, prefix: str = ""
) -> list[Problem]:
    """Every finding of pydantic about ``values``, each with its dotted path and a way out."""
    return [_in_words(found, model, values, prefix) for found in error.errors()]


def _in_words(found: ErrorDetails, model: type[BaseModel], values: Any, prefix: str) -> Problem:
    steps = [str(step) for step in found["loc"]]
    where = ".".join([prefix, *steps] if prefix else steps) or "specification"
    if found["type"] == "extra_forbidden":
        return _unknown_key(where, steps, model)
    if found["type"] == "missing":
        return Problem(where, f"is missing{_about(model, steps)}")
    context = found.get("ctx", {})
    reason = context.get("error")
    if found["type"] == "value_error" and isinstance(reason, Refusal):
        return reason.problem(where)
    what, works = sentence(found["type"], _at(values, found["loc"]), context, found["msg"])
    return Problem(where, what, works=works)


def _unknown_key(where: str, steps: list[str], model: type[BaseModel]) -> Problem:
    section = _section(model, steps[:-1])
    names = list(section.model_fields) if section else []
    close = nearest(steps[-1], names)
    elsewhere = [path for path in _paths(model) if path.split(".")[-1] == steps[-1]]
    works = choice(close or elsewhere or names)
    return Problem(where, "there is no such key here", works=works)


def _about(model: type[BaseModel], steps: list[str]) -> str:
    section = _section(model, steps[:-1])
    field = section.model_fields.get(steps[-1]) if section else None
    return f": {field.description}" if field and field.description else ""


def _section(model: type[BaseModel], steps: list[str]) -> type[BaseModel] | None:
    for step in steps:
        field = model.model_fields.get(step)
        inner = _models_in(field.annotation) if field else []
        if not inner:
            return None
        model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    candidates = (annotation, *get_args(annotation))
    return [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _models_in(field.annotation):
            yield from _paths(inner, f"{prefix}{name}.")


def _at(values: Any, location: tuple[int | str, ...]) -> Any:
    for step in location:
        if isinstance(values, dict):
            values = values.get(step)
        elif isinstance(values, (list, tuple)) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return None
    return values
