"""Which nodes does a label selector mean?

Ray's own syntax: each label key has one expression, ``value``, ``!value``, ``in(a, b)`` or
``!in(a, b)``, and all must hold. A node without the label meets only the two that begin with
``!``. Does not know which nodes there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice

Selector = Mapping[str, str]

NODE_ID = "ray.io/node-id"
"""The label that Ray gives every node; selecting by it pins a bundle to one node."""

_EXPRESSION = re.compile(
    r"""(?P<not>!?) (?: in \( (?P<many> [^()!,]+ (?: ,[^()!,]+ )* ) \) | (?P<one> [^()!,]+ ) )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one label that are meant: ``names``, or with ``negated`` all others."""

    names: frozenset[str]
    negated: bool = False

    def hold(self, label: str | None) -> bool:
        """Whether a node with this value, or without the label (``None``), is meant."""
        return (label in self.names) != self.negated

    def both(self, other: Values) -> Values | None:
        """The values that both mean; ``None`` if there are none."""
        if self.negated and other.negated:
            return Values(self.names | other.names, negated=True)
        if other.negated:
            return _some(self.names - other.names)
        if self.negated:
            return _some(other.names - self.names)
        return _some(self.names & other.names)

    def __str__(self) -> str:
        """As Ray reads it."""
        names = ",".join(sorted(self.names))
        text = names if len(self.names) == 1 else f"in({names})"
        return f"!{text}" if self.negated else text


@lru_cache(maxsize=4096)
def parse(expression: str) -> Values:
    """What an expression means. Raises ``Refusal`` (a ``ValueError``) for another syntax."""
    found = _EXPRESSION.fullmatch(expression.strip())
    if found is None:
        raise Refusal(
            f"{expression!r} selects no labels", works="value, !value, in(a, b) or !in(a, b)"
        )
    listed = found["many"] if found["many"] is not None else found["one"]
    names = frozenset(name.strip() for name in listed.split(","))
    return Values(names, negated=bool(found["not"]))


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is meant."""
    return all(parse(text).hold(labels.get(key)) for key, text in selector.items())


def combine(one: Selector, other: Selector) -> Selector | None:
    """The selector of the nodes that both mean; ``None`` where they contradict each other."""
    found = dict(one)
    for key, text in other.items():
        if key not in found:
            found[key] = text
        elif found[key] != text:
            values = parse(found[key]).both(parse(text))
            if values is None:
                return None
            found[key] = str(values)
    return found


def format_selector(selector: Selector) -> str:
    """``accelerator=H200, zone=a or b``; empty for a selector that means every node."""
    return ", ".join(_words(key, parse(text)) for key, text in sorted(selector.items()))


def _some(names: frozenset[str]) -> Values | None:
    return Values(names) if names else None


def _words(key: str, values: Values) -> str:
    names = choice(sorted(values.names))
    return f"{key} other than {names}" if values.negated else f"{key}={names}"
