"""How is a tree of values written as YAML that a person can review?

Keys keep their order, comments stand above what they are about, and text that any YAML reader
might take for something else is quoted. Equal trees give equal text. Knows nothing of Kubernetes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

WIDTH = 100
_INDENT = 2
_SAFE_TEXT = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")


@dataclass(frozen=True)
class Note:
    """A value with a comment that stands above it."""

    value: Any
    text: str


class _Sink:
    """Takes what a writer of YAML writes, in memory."""

    encoding = "utf-8"
    """Said for ruamel.yaml, which otherwise writes bytes."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return len(text)


Node = Any
"""A mapping, a sequence, a scalar, or a ``Note`` of one of them."""


def plain(node: Node) -> Any:
    """The same tree without its comments, as a parser gives it back."""
    if isinstance(node, Note):
        return plain(node.value)
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [plain(value) for value in node]
    return node


def document(node: Node, heading: str = "") -> str:
    """One YAML document as text; ``heading`` becomes comment lines above it."""
    writer = YAML()
    writer.width = 4096  # a folded scalar is read back equal, but not easily read
    writer.indent(mapping=_INDENT, sequence=2 * _INDENT, offset=_INDENT)
    sink = _Sink()
    writer.dump(_commented(node, 0), sink)
    return _comment(heading) + "".join(sink.parts)


def documents(texts: Sequence[str]) -> str:
    """Several documents as one stream."""
    return "---\n".join(texts)


def _commented(node: Node, depth: int) -> Any:
    value = node.value if isinstance(node, Note) else node
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _sequence(value, depth)
    return _scalar(value)


def _mapping(values: Mapping[str, Node], depth: int) -> CommentedMap:
    found = CommentedMap()
    for key, node in values.items():
        found[_scalar(key)] = _commented(node, depth + _INDENT)
        if isinstance(node, Note):
            _set_comment(found, key, node.text, depth)
    if not values:
        found.fa.set_flow_style()
    return found


def _sequence(values: Sequence[Node], depth: int) -> CommentedSeq:
    found = CommentedSeq()
    for index, node in enumerate(_hoisted(each) for each in values):
        # A dash stands two columns in, and what follows it two more.
        found.append(_commented(node, depth + _INDENT))
        if isinstance(node, Note):
            _set_comment(found, index, node.text, depth)
    short = all(isinstance(value, (int, float)) or _is_word(value) for value in values)
    if not values or (short and len(str(values)) < WIDTH // 2):
        found.fa.set_flow_style()
    return found


def _hoisted(node: Node) -> Node:
    """A comment on the first key of an item stands above the item's dash."""
    if not isinstance(node, Mapping) or not node:
        return node
    key, first = next(iter(node.items()))
    if not isinstance(first, Note):
        return node
    return Note({**node, key: first.value}, first.text)


def _set_comment(container: Any, key: Any, text: str, depth: int) -> None:
    lines = textwrap.wrap(text, max(40, WIDTH - depth - 2), break_long_words=False)
    container.yaml_set_comment_before_after_key(key, before="\n".join(lines), indent=depth)


def _scalar(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "\n" in value and _is_literal(value):
        return LiteralScalarString(value)
    return value if _is_word(value) else DoubleQuotedScalarString(value)


def _is_word(value: Any) -> bool:
    """Whether every reader, of YAML 1.1 or 1.2, takes the plain text for this very text."""
    if not isinstance(value, str) or not _SAFE_TEXT.fullmatch(value):
        return False
    return bool(yaml.safe_load(value) == value)


def _is_literal(text: str) -> bool:
    """Whether a block keeps the text: no blanks at the ends of lines, nothing unprintable."""
    lines = text.split("\n")
    ends = any(line != line.rstrip() for line in lines)
    clean = all(ord(each) >= 32 or each == "\n" for each in text)
    return text.isascii() and clean and not ends and text[0] not in " \n" and text[-1] == "\n"


def _comment(text: str) -> str:
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, WIDTH - 2) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) if text else ""
