"""How are bandwidths, rates and prices written in a specification?

Times and sizes are read by ``orchestrator.plan.quantities``; here are the quantities that a
plan does not have. A bare number is taken as the base unit: bytes per second.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from orchestrator.plan.quantities import parse_duration, parse_size
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import show

_PREFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_BANDWIDTH = re.compile(
    r"^\s*([\d.]+(?:[eE][-+]?\d+)?)\s*([KMGT]i|[kKMGT]?)(bps|b/s|bit/s|B/s)\s*$"
)
_EXAMPLE = "300GB/s or 1600Gbps"

SLOWEST_BARE = 1e6
"""Bytes per second from which a number without a unit is believed."""


def parse_bandwidth(value: Any) -> float:
    """Bytes per second from ``300GB/s``, ``1600Gbps`` (bits) or a number of bytes per second.

    Zero is refused: a link that moves nothing has no cost that could be stated. So is a bare
    number below a megabyte per second, which lacks a unit more likely than speed.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _plausible(_positive(float(value), value))
    match = _BANDWIDTH.match(value) if isinstance(value, str) else None
    if match is None:
        raise Refusal(f"{show(value)} is not a bandwidth", works=_EXAMPLE)
    prefix, unit = match[2], match[3]
    scale = _BINARY.get(prefix) or _PREFIXES[prefix]
    bits = 8 if unit != "B/s" else 1
    return _positive(float(match[1]) * scale / bits, value)


def _plausible(number: float) -> float:
    if number < SLOWEST_BARE:
        what = f"{number:g} is {number:g} bytes per second"
        raise Refusal(what, works=f"{number:g}GB/s, or {number:g}B/s if that is meant")
    return number


def _positive(number: float, shown: Any) -> float:
    if not math.isfinite(number) or number <= 0:
        raise Refusal(f"{show(shown)} moves nothing: a bandwidth is more than zero", works=_EXAMPLE)
    return number


Bandwidth = Annotated[float, BeforeValidator(parse_bandwidth)]
"""Bytes per second, one direction."""

Latency = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
