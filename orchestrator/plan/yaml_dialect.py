"""Which YAML does a plan speak?

The core schema of YAML 1.2: ``3e-4`` is a number, only true and false are booleans, ``yes``,
``on`` and ``12:30`` are text. Beyond it, ``1_000`` is a number, and ``<<`` merges a mapping. The
dumper quotes by the same rules, so that what it writes is read back equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
"""What the names of YAML's own types begin with."""

_RESOLVERS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlanLoader(_SafeLoader):  # type: ignore[misc]
    """Composes YAML nodes whose plain scalars are resolved as in YAML 1.2."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}


class PlanDumper(yaml.SafeDumper):
    """Writes YAML that ``PlanLoader`` reads back equal, strings that look like numbers included."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}

    def ignore_aliases(self, _data: Any) -> bool:
        """Write every value out: anchors make a resolved plan hard to read."""
        return True


def _write_text(dumper: PlanDumper, text: str) -> yaml.ScalarNode:
    # Line breaks that only Unicode knows survive in no style but the double-quoted one.
    style = '"' if set(text) & set("\x85\u2028\u2029\ufeff\r") else None
    return dumper.represent_scalar(f"{TAG}str", text, style=style)


def _write_list(dumper: PlanDumper, values: list[Any]) -> yaml.SequenceNode:
    # One line for a row of numbers or names; lists of sections stay a line each.
    short = not any(isinstance(value, (dict, list)) for value in values)
    return dumper.represent_sequence(f"{TAG}seq", values, flow_style=short)


PlanDumper.add_representer(str, _write_text)
PlanDumper.add_representer(list, _write_list)

for _name, _pattern, _first in _RESOLVERS:
    _compiled = re.compile(rf"^(?:{_pattern})$")
    _letters = [*_first, ""] if _name == "null" else [*_first]
    for _class in (PlanLoader, PlanDumper):
        _class.add_implicit_resolver(TAG + _name, _compiled, _letters)


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    return int(digits, base)


def _float(text: str) -> float:
    bare = text.replace("_", "").lower()
    return float(bare.replace(".inf", "inf").replace(".nan", "nan"))


SCALARS: dict[str, Callable[[str], Any]] = {
    f"{TAG}null": lambda _: None,
    f"{TAG}bool": lambda text: text.lower() == "true",
    f"{TAG}int": _integer,
    f"{TAG}float": _float,
    f"{TAG}str": str,
    f"{TAG}merge": str,
}
"""What turns the text of a scalar into its value, by tag; ``ValueError`` where it cannot."""
