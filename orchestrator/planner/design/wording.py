"""How are numbers told to a person: three figures, and the unit that fits?"""

from __future__ import annotations

import math

Units = tuple[tuple[float, float, str], ...]
"""From which number on, what it is divided by, and what that is called."""

_DAY, _YEAR = 86_400.0, 365 * 86_400.0
_TIMES: Units = (
    (2 * _YEAR, _YEAR, "years"), (2 * _DAY, _DAY, "d"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"),
    (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs"),
)  # fmt: skip
_SIZES: Units = (
    (1e15, 1e15, "PB"), (1e12, 1e12, "TB"), (1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e3, 1e3, "kB"),
    (0.0, 1.0, "B"),
)  # fmt: skip
_COUNTS: Units = ((1e15, 1e15, "Q"), (1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e6, 1e6, "M"))


def figure(number: float) -> str:
    """Three significant figures, thousands set apart, never an exponent below a million."""
    if math.isinf(number):
        return "∞"
    if number == 0:
        return "0"
    if not 1e-6 <= abs(number) < 1e6:
        return f"{number:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(number: float) -> str:
    """``2.4 ms``, ``18 s``, ``2.5 h``, ``21 d``; ``never`` for what takes for ever."""
    if math.isinf(number):
        return "never"
    return _scaled(number, _TIMES) if number else "0 s"


def size(number: float) -> str:
    """``1.2 TB``; whole gibibytes stay what they were written as, ``64 GiB``."""
    if number >= 2**30 and number % 2**30 == 0 and number % 10**6:
        large = number >= 2**40 and number % 2**40 == 0
        return f"{figure(number / 2**40)} TiB" if large else f"{figure(number / 2**30)} GiB"
    return _scaled(number, _SIZES)


def rate(number: float) -> str:
    """``1.25 GB/s``."""
    return f"{size(number)}/s"


def count(number: float) -> str:
    """``50,000`` as it is; ``70B`` from a million on."""
    if number >= 1e6:
        return _scaled(number, _COUNTS).replace(" ", "")
    return f"{number:,.0f}" if number == int(number) else figure(number)


def share(number: float) -> str:
    """``12 %``."""
    return f"{figure(100 * number)} %"


def counted(number: float, noun: str, plural: str = "") -> str:
    """``1 machine``, ``18 machines``."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def _scaled(number: float, units: Units) -> str:
    for least, factor, unit in units:
        # 999.9 MB would be shown as 1,000 MB.
        if abs(number) >= least * 0.9995:
            return f"{figure(number / factor)} {unit}"
    return figure(number)
