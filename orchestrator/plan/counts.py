"""Counts that may be a range, or left to the program.

``4`` or ``[2, 4]``; ``50`` or ``auto``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from orchestrator.plan.refusal import Refusal
from orchestrator.plan.section import Section
from orchestrator.plan.wording import show

LARGEST_COUNT = 100_000
"""More workers or replicas than this are taken for a slip of the finger."""


class Span(Section):
    """A count, or an elastic range of counts; written ``4`` or ``[2, 4]``."""

    min: Annotated[int, Field(ge=1)]
    """The fewest that will do."""
    max: Annotated[int, Field(ge=1)]
    """The most that are used."""

    @property
    def elastic(self) -> bool:
        """Whether more than one count is allowed."""
        return self.min != self.max


def parse_span(value: Any) -> Any:
    """``4`` → 4 to 4; ``[2, 4]`` → 2 to 4. Raises ``Refusal`` for anything else."""
    if isinstance(value, Span):
        return value
    if type(value) is int:
        low = high = value
    elif isinstance(value, (list, tuple)) and [type(item) for item in value] == [int, int]:
        low, high = value
    else:
        said = show(value) if not isinstance(value, (list, tuple)) else str(list(value))
        raise Refusal(f"expected a count such as 4, or a range such as [2, 4], not {said}")
    if low < 1:
        raise Refusal(f"at least 1 is needed, not {low}", works=str(max(high, 1)))
    if low > high:
        raise Refusal(
            f"in [{low}, {high}] the first number is the minimum",
            f"{low} > {high}",
            f"[{high}, {low}]",
        )
    if high > LARGEST_COUNT:
        raise Refusal(f"{high} is more than the {LARGEST_COUNT} that can be asked for")
    return Span(min=low, max=high)


def format_span(span: Span) -> int | list[int]:
    """The way a person writes a span."""
    return [span.min, span.max] if span.elastic else span.min


def parse_count_or_auto(value: Any) -> Any:
    """``auto`` or a whole number from 1. Raises ``Refusal`` otherwise."""
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise Refusal(f"expected auto or a whole number from 1, such as 50, not {show(value)}")


_COUNT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": LARGEST_COUNT}

CountOrRange = Annotated[
    Span,
    BeforeValidator(parse_span),
    PlainSerializer(format_span, return_type=Any),
    WithJsonSchema(
        {
            "anyOf": [
                _COUNT_SCHEMA,
                {"type": "array", "items": _COUNT_SCHEMA, "minItems": 2, "maxItems": 2},
            ],
            "examples": [4, [2, 4]],
        }
    ),
]
"""A count, or ``[min, max]``."""

CountOrAuto = Annotated[
    int | Literal["auto"],
    BeforeValidator(parse_count_or_auto),
    PlainSerializer(lambda value: value, return_type=Any),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
"""``auto``, or a number from 1."""
