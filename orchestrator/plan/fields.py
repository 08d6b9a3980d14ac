"""Which fields does a plan have, where, and what are they for?

An index of the schema by dotted path, for messages about keys that are missing, unknown or in
the wrong section.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from orchestrator.plan.plan import Plan
from orchestrator.plan.section import Section


@dataclass(frozen=True, slots=True)
class FieldNote:
    """One field: its docstring, an example, and the ``kind`` of section that has it, if any."""

    path: str
    description: str
    required: bool
    example: Any = None
    kind: str | None = None


@cache
def field_notes() -> tuple[FieldNote, ...]:
    """Every field of a plan, sections before what is in them; one entry for each kind."""
    return tuple(_walk(Plan, "", None))


@cache
def kinds_at(path: str) -> tuple[str, ...]:
    """The kinds of section that ``path`` may be; empty where there is only one."""
    inside = f"{path}." if path else ""
    found = (
        note.kind
        for note in field_notes()
        if note.kind is not None and note.path == f"{inside}kind"
    )
    return tuple(dict.fromkeys(found))


def names_in(section: str, kind: str | None = None) -> list[str]:
    """The names of the fields directly in a section, of one ``kind`` or of all of them."""
    prefix = f"{section}." if section else ""
    names = [
        note.path.removeprefix(prefix)
        for note in field_notes()
        if note.path.startswith(prefix) and (kind is None or note.kind in (None, kind))
    ]
    return list(dict.fromkeys(name for name in names if "." not in name))


def notes_at(path: str) -> list[FieldNote]:
    """The fields at ``path``: one, or one for each kind of section that has it."""
    return [note for note in field_notes() if note.path == path]


def paths_ending_in(name: str) -> list[str]:
    """Where else a field called ``name`` lives, the nearest to the root first."""
    paths = dict.fromkeys(n.path for n in field_notes() if n.path.rpartition(".")[2] == name)
    return sorted(paths, key=lambda path: path.count("."))


def _walk(section: type[Section], prefix: str, kind: str | None) -> Iterator[FieldNote]:
    for name, info in section.model_fields.items():
        path = f"{prefix}{name}"
        yield FieldNote(path, _oneline(info), info.is_required(), _example(info), kind)
        inner = _sections(info.annotation)
        for candidate in inner:
            if not _is_span(candidate):
                own_kind = _kind_of(candidate) if len(inner) > 1 else None
                yield from _walk(candidate, f"{path}.", own_kind)


def _is_span(section: type[Section]) -> bool:
    # Written as a number or a list, never as a section with keys.
    return set(section.model_fields) == {"min", "max"}


def _kind_of(section: type[Section]) -> str | None:
    info = section.model_fields.get("kind")
    if info is None or get_origin(info.annotation) is not Literal:
        return None
    return str(get_args(info.annotation)[0])


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    if get_origin(annotation) is Annotated:
        return _sections(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for option in get_args(annotation) for found in _sections(option)]
    return []


def _oneline(info: FieldInfo) -> str:
    return " ".join((info.description or "").replace("``", "").split())


def _example(info: FieldInfo) -> Any:
    return info.examples[0] if info.examples else None
