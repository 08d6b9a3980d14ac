"""How is a value, a list of choices or a near miss put into words?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

KIND_WORDS = {
    "NoneType": "nothing (null)",
    "bool": "true or false",
    "dict": "a section of keys",
    "list": "a list",
}
_LONGEST_SHOWN = 60


def nearest(name: str, known: Iterable[str], limit: int = 2) -> list[str]:
    """The known names that look most like ``name``, best first; none if nothing is close."""
    by_folded = {fold(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(fold(name), by_folded, n=limit, cutoff=0.6)
    return [by_folded[candidate] for candidate in found]


def similarity(one: str, other: str) -> float:
    """How alike two names look, from 0 to 1."""
    return difflib.SequenceMatcher(None, fold(one), fold(other)).ratio()


def fold(name: str) -> str:
    """``name`` without case, dashes and underscores, for comparing spellings."""
    return name.lower().replace("-", "").replace("_", "")


def choice(options: Sequence[str], word: Literal["or", "and"] = "or") -> str:
    """``a, b or c``."""
    if len(options) < 2:
        return "".join(options)
    return f"{', '.join(options[:-1])} {word} {options[-1]}"


def either(ways: Sequence[str]) -> str:
    """Ways out that are whole settings: ``a=1, or b=2``."""
    return ", or ".join(ways)


def show(value: Any) -> str:
    """A value from a YAML file the way a person would name it in a sentence, on one line."""
    if value is None or isinstance(value, (dict, list)):
        return KIND_WORDS[type(value).__name__]
    text = f'"{value}"' if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
