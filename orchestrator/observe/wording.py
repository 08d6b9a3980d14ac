"""How are figures said to people in reports? Rounded, with a unit, in few words.

Exact spellings, as the plan needs them, are in ``plan.quantities``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.plan.quantities import format_size

_MOST_DIGITS = 4


def format_seconds(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(size_bytes: int) -> str:
    """``512B``, ``2MiB`` where that is exact and short, else ``12.3 MB``."""
    exact = format_size(size_bytes)
    if len(exact.rstrip("BKMGTPki")) <= _MOST_DIGITS:
        return exact
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return exact


def counted(number: int, noun: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def capital(text: str) -> str:
    """``text`` with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def shortened(text: str, limit: int = 200) -> str:
    """``text``, cut to ``limit`` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """``text`` with what would move a cursor or change a colour spelled out (``\\x1b``)."""
    return "".join(c if c.isprintable() else _spelled(c) for c in text)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", errors="backslashreplace").decode("ascii")
