"""Which further quantities may a workload hold: counts, rates of bytes, rates of FLOP.

Durations and sizes are those of the plan. A count may carry a letter (``70B`` parameters), a rate
says per what (``25GB/s``, ``400TFLOP/s``).
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from orchestrator.plan.quantities import SIZE_UNITS, parse_size
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import show

COUNT_UNITS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "Q": 1e15}
FLOP_UNITS = {"MFLOP/s": 1e6, "GFLOP/s": 1e9, "TFLOP/s": 1e12, "PFLOP/s": 1e15}
BIT_UNITS = {"kb/s": 1e3, "Mb/s": 1e6, "Gb/s": 1e9, "Tb/s": 1e12}
_VALUE = re.compile(r"\s*(\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z/]*)\s*")


def parse_count(value: Any) -> float:
    """``70B`` → 7e10; a number stays itself. Raises ``Refusal`` naming the letters that exist."""
    number, unit = _split(value, "a count such as 70B or 2_000_000")
    if unit and unit not in COUNT_UNITS:
        raise Refusal(
            f"{show(value)}: {unit} is not a letter for a count; letters are "
            f"{', '.join(COUNT_UNITS)}",
            works="70B for 70 billion, 5M, 20k",
        )
    return number * COUNT_UNITS.get(unit, 1.0)


def parse_positive(value: Any) -> float:
    """A count above 0."""
    return _above_zero(parse_count(value), value)


def parse_byte_rate(value: Any) -> float:
    """Bytes per second from ``25GB/s``, ``10Gb/s`` (bits) or a number of bytes per second.

    Raises ``Refusal`` for another unit and for 0: what moves nothing has no finite time.
    """
    number, unit = _split(value, "a rate such as 25GB/s or 10Gb/s")
    if not unit:
        return _above_zero(number, value)
    if unit in BIT_UNITS:
        return _above_zero(number * BIT_UNITS[unit] / 8.0, value)
    if not unit.endswith("/s") or unit.removesuffix("/s") not in SIZE_UNITS:
        meant = f"{number:g}{unit}/s" if unit in SIZE_UNITS else ""
        raise Refusal(
            f"{show(value)}: {unit} is not bytes per second; units are MB/s, GB/s, MiB/s, "
            "and Mb/s or Gb/s for bits",
            works=meant or "25GB/s",
        )
    return _above_zero(number * parse_size(f"1{unit.removesuffix('/s')}"), value)


def parse_flop_rate(value: Any) -> float:
    """FLOP per second from ``400TFLOP/s`` or a number. Raises ``Refusal`` for 0 or another unit."""
    number, unit = _split(value, "a rate such as 400TFLOP/s")
    if unit and unit not in FLOP_UNITS:
        meant = f"{number:g}{unit[0]}FLOP/s" if unit[0] in "MGTP" else "400TFLOP/s"
        raise Refusal(
            f"{show(value)}: {unit} is not a rate of computing; units are {', '.join(FLOP_UNITS)}",
            works=meant,
        )
    return _above_zero(number * FLOP_UNITS.get(unit, 1.0), value)


def _split(value: Any, expected: str) -> tuple[float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number, unit = float(value), ""
    else:
        found = _VALUE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise Refusal(f"expected {expected}, not {show(value)}")
        number, unit = float(found[1].replace("_", "")), found[2]
    if not math.isfinite(number) or number < 0:
        raise Refusal(f"expected {expected}, not {show(value)}: it must be finite and not negative")
    return number, unit


def _above_zero(number: float, value: Any) -> float:
    if number <= 0:
        raise Refusal(f"must be more than 0, not {show(value)}")
    return number


def _schema(kind: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
         "description": kind, "examples": [example]}
    )  # fmt: skip


Count = Annotated[float, BeforeValidator(parse_count), _schema("a count", "70B")]
"""How many; may be 0."""
Positive = Annotated[float, BeforeValidator(parse_positive), _schema("a count above 0", "70B")]
"""How many; above 0."""
ByteRate = Annotated[float, BeforeValidator(parse_byte_rate), _schema("bytes/s", "25GB/s")]
"""Bytes per second, above 0."""
FlopRate = Annotated[float, BeforeValidator(parse_flop_rate), _schema("FLOP/s", "400TFLOP/s")]
"""FLOP per second, above 0."""
