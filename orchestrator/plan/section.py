"""The common ground of every part of a plan: frozen, and without unknown keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the plan; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def kind_or(default: str) -> Callable[[Any], Any]:
    """A validator that takes a section without ``kind`` for one of the ``default`` kind."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict) and "kind" not in value:
            return {"kind": default, **value}
        return value

    return fill


def as_tuple(value: Any) -> Any:
    """A validator that takes a list for a tuple, where the rest of the plan is strict."""
    return tuple(value) if isinstance(value, list) else value
