"""Quantities with units: what may a person write, and how is it written back?

Durations are seconds (``float``), sizes are bytes (``int``). A bare number is taken as the
base unit; a string carries its unit: ``50ms``, ``2m``, ``1h30m``, ``32GiB``, ``500MB``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice, show

DURATION_UNITS: dict[str, Fraction] = {
    "us": Fraction(1, 1_000_000),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
SIZE_UNITS: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
_MEANT = {
    "us": ("µs", "usec", "microsecond"),
    "ms": ("msec", "milli", "millisecond"),
    "s": ("sec", "second"),
    "m": ("min", "minute"),
    "h": ("hr", "hour"),
    "d": ("day",),
}
_DURATION_EXAMPLES = "50ms, 2m or 1h30m"
_SIZE_EXAMPLES = "32GiB or 500MB"
_EXAMPLES = {"time": _DURATION_EXAMPLES, "size": _SIZE_EXAMPLES}
_NUMBER = r"\d+(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})\s*([A-Za-zµ]+)")


def parse_duration(value: Any) -> float:
    """Seconds from ``50ms``, ``2m``, ``1h30m`` or a number of seconds.

    Raises ``Refusal`` naming the units that exist.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite_positive(float(value), "duration")
    parts = _parts(value, "duration", _DURATION_EXAMPLES, DURATION_UNITS)
    total = Fraction(0)
    for number, unit in parts:
        factor = DURATION_UNITS.get(unit)
        if factor is None:
            raise _unknown_unit(value, unit, "time", DURATION_UNITS, _meant_times(unit))
        total += Fraction(number) * factor
    return float(total)


def parse_deadline(value: Any) -> float:
    """Seconds, more than none: a wait that may take no time at all always fails."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise Refusal(f"{show(value)} leaves no time at all", works="a duration such as 2m")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes from ``32GiB``, ``500MB`` or a whole number of bytes.

    Raises ``Refusal`` naming the units that exist.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _finite_positive(float(value), "size")
        if number != int(number):
            raise Refusal(f"{show(value)} is not a whole number of bytes")
        return int(value)
    parts = _parts(value, "size", _SIZE_EXAMPLES, SIZE_UNITS)
    if len(parts) != 1:
        raise Refusal(f"{show(value)}: a size has one number and one unit, such as 32GiB")
    number_text, unit = parts[0]
    factor = SIZE_UNITS.get(unit)
    if factor is None:
        raise _unknown_unit(value, unit, "size", SIZE_UNITS, _meant_sizes(unit))
    size = Fraction(number_text) * factor
    if size.denominator != 1:
        raise Refusal(f"{show(value)} is not a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest exact spelling of a duration: ``0.05`` → ``50ms``, ``120.0`` → ``2m``."""
    exact = Fraction(seconds).limit_denominator(1_000_000)
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count = exact / DURATION_UNITS[unit]
        if count.denominator == 1 and count and float(exact) == seconds:
            return f"{count.numerator}{unit}"
    # Never in exponent notation, which would not parse back.
    return f"{Decimal(repr(seconds)):f}s"


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling of a size: ``34359738368`` → ``32GiB``."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB", "PB", "TB", "GB", "MB", "kB"):
        if size_bytes and size_bytes % SIZE_UNITS[unit] == 0:
            return f"{size_bytes // SIZE_UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def _finite_positive(number: float, kind: str) -> float:
    if not math.isfinite(number) or number < 0:
        raise Refusal(f"{number!r} is not a {kind}: it must be finite and not negative")
    return number


def _parts(value: Any, kind: str, examples: str, units: Iterable[str]) -> list[tuple[str, str]]:
    if not isinstance(value, str):
        raise Refusal(f"expected a {kind} such as {examples}, not {show(value)}")
    text = value.strip()
    parts = [(match[1], match[2]) for match in _PART.finditer(text)]
    if parts and not _PART.sub("", text).strip():
        return parts
    if re.fullmatch(_NUMBER, text):
        raise Refusal(f"{show(value)} has no unit; units are {', '.join(units)}")
    raise Refusal(f"{show(value)} is not a {kind}", works=examples)


def _unknown_unit(
    value: str, unit: str, kind: str, units: Mapping[str, object], meant: list[str]
) -> Refusal:
    repaired = [value.strip().replace(unit, candidate).replace(" ", "") for candidate in meant]
    return Refusal(
        f"{show(value)}: {unit} is not a unit of {kind}; units are {', '.join(units)}",
        works=choice(repaired) or _EXAMPLES[kind],
    )


def _meant_times(unit: str) -> list[str]:
    folded = unit.lower()
    singular = folded if folded in DURATION_UNITS else folded.removesuffix("s")
    return [
        known
        for known, words in _MEANT.items()
        if folded in (known, *words) or singular in (known, *words)
    ][:1]


def _meant_sizes(unit: str) -> list[str]:
    first = unit[0].upper()
    if first not in "KMGTP" or unit.upper() not in {first, f"{first}B", f"{first}I", f"{first}IB"}:
        return []
    return [f"{first}iB", "kB" if first == "K" else f"{first}B"]


def _schema(kind: str, base_unit: str, pattern: str, examples: list[str]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "description": f"{kind} in {base_unit}"},
                {"type": "string", "pattern": pattern},
            ],
            "examples": examples,
        }
    )


_DURATION_SCHEMA = _schema(
    "duration",
    "seconds",
    r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|h|d)\s*)+$",
    ["50ms", "2m", "1h30m"],
)

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    _DURATION_SCHEMA,
]
"""A duration in seconds."""

Deadline = Annotated[
    float,
    BeforeValidator(parse_deadline),
    PlainSerializer(format_duration, return_type=str),
    _DURATION_SCHEMA,
]
"""A duration in seconds, more than none."""

Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    _schema(
        "size",
        "bytes",
        r"^\s*\d+(\.\d+)?\s*(B|[kK]B|[MGTP]B|[KMGTP]iB)\s*$",
        ["32GiB", "500MB"],
    ),
]
"""A size in bytes."""
