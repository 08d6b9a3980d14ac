"""Which sentence does a person read for each kind of schema error?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.plan.wording import choice, nearest, show

Sentence = tuple[str, str]
"""What is wrong, and what works (empty where nothing in particular does)."""


@dataclass(frozen=True)
class _Found:
    """The value that was refused, and what pydantic says about the rule that it breaks."""

    value: Any
    rule: Mapping[str, Any]


def sentence(kind: str, value: Any, rule: Mapping[str, Any], otherwise: str) -> Sentence:
    """Words for pydantic's error ``kind`` about ``value``; ``otherwise`` for one not known."""
    say = _SENTENCES.get(kind)
    if say is None:
        return f"{otherwise[:1].lower()}{otherwise[1:]}", ""
    return say(_Found(value, rule))


def in_flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()


def _options(text: str) -> list[str]:
    return [option.strip().strip("'") for option in text.replace(" or ", ", ").split(", ")]


def _literal(found: _Found) -> Sentence:
    options = _options(str(found.rule["expected"]))
    close = nearest(found.value, options, 1) if isinstance(found.value, str) else []
    works = close[0] if close else options[0] if len(options) == 1 else ""
    return f"expected {choice(options)}, not {show(found.value)}", works


def _kind_unknown(found: _Found) -> Sentence:
    kind = found.value.get("kind") if isinstance(found.value, dict) else found.value
    options = _options(str(found.rule["expected_tags"]))
    close = nearest(kind, options, 1) if isinstance(kind, str) else []
    works = f"kind: {close[0]}" if close else ""
    return f"there is no kind {show(kind)}; kinds are {', '.join(options)}", works


def _kind_missing(_: _Found) -> Sentence:
    # Only a source must say its kind; an optimizer has a default.
    return "does not say which kind it is", "kind: text, jsonl, csv, parquet or python"


def _number(expected: str) -> Callable[[_Found], Sentence]:
    def say(found: _Found) -> Sentence:
        value = found.value
        if isinstance(value, str) and value.replace(".", "", 1).lstrip("-").isdigit():
            return f"expected {expected}, not text in quotes", value
        works = str(int(value)) if isinstance(value, float) and value == int(value) else ""
        return f"expected {expected}, not {show(value)}", works

    return say


def _boolean(found: _Found) -> Sentence:
    # What other dialects of YAML take for a boolean is text here, or a number.
    words = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
    return f"expected true or false, not {show(found.value)}", words.get(
        str(found.value).lower(), ""
    )


def _text(found: _Found) -> Sentence:
    quoted = f'"{found.value}"' if isinstance(found.value, (int, float)) else ""
    return f"expected text, not {show(found.value)}", quoted


def _section(found: _Found) -> Sentence:
    if found.value is None:
        return "is an empty section", "keys below it, or without it"
    return f"expected a section of keys, not {show(found.value)}", ""


def _list(found: _Found) -> Sentence:
    return f"expected a list, not {show(found.value)}", ""


def _too_many_letters(found: _Found) -> Sentence:
    limit = found.rule["max_length"]
    noun = "character" if limit == 1 else "characters"
    return f"must have at most {limit} {noun}, not {show(found.value)}", ""


def _bound(word: str, key: str) -> Callable[[_Found], Sentence]:
    def say(found: _Found) -> Sentence:
        bound = found.rule[key]
        shown = str(int(bound)) if bound == int(bound) else str(bound)
        works = shown if key in ("ge", "le") else ""
        return f"must be {word} {shown}, not {show(found.value)}", works

    return say


def _fixed(what: str) -> Callable[[_Found], Sentence]:
    return lambda _: (what, "")


_SENTENCES: dict[str, Callable[[_Found], Sentence]] = {
    "literal_error": _literal,
    "union_tag_invalid": _kind_unknown,
    "union_tag_not_found": _kind_missing,
    "int_type": _number("a whole number"),
    "int_from_float": _number("a whole number"),
    "float_type": _number("a number"),
    "int_parsing": _number("a whole number"),
    "float_parsing": _number("a number"),
    "bool_parsing": _boolean,
    "bool_type": _boolean,
    "string_type": _text,
    "model_type": _section,
    "model_attributes_type": _section,
    "dict_type": _section,
    "tuple_type": _list,
    "list_type": _list,
    "too_long": _fixed("the list is too long"),
    "too_short": _fixed("must not be empty"),
    "string_too_short": _fixed("must not be empty"),
    "string_too_long": _too_many_letters,
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("more than", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("less than", "lt"),
    "finite_number": _fixed("must be a finite number"),
}
