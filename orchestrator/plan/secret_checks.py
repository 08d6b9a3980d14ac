"""Do references to secrets stand only where they are resolved, and are they spelled right?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.errors import Problem
from orchestrator.plan.dump import plan_values
from orchestrator.plan.plan import Plan
from orchestrator.plan.wording import choice, nearest
from orchestrator.secret import KINDS, references

RESOLVED = ("storage", "options", "data.source.path", "data.source.arguments", "inference.token")
"""The fields in which a reference is looked up where it is used."""


def check_references(plan: Plan) -> Iterator[Problem]:
    """References of an unknown kind or without a name, and those that nobody would look up."""
    for path, text in _strings(plan_values(plan), ()):
        for kind, name in references(text):
            yield from _check(".".join(path), kind, name)


def check_token(plan: Plan) -> Iterator[Problem]:
    """A token that is written out in a plan is none: plans are kept, shown and shared."""
    token = plan.inference.token if plan.inference else None
    if token is not None and len(references(token)) != 1:
        yield Problem(
            "inference.token",
            "a secret must not stand in a plan, which is kept and shown in many places",
            works="a reference: ${env:NAME}, or ${file:/path/to/it}",
        )


def _check(where: str, kind: str, name: str) -> Iterator[Problem]:
    if kind not in KINDS:
        close = nearest(kind, KINDS, 1) or list(KINDS)
        yield Problem(
            where,
            f"${{{kind}:…}} is no reference to a secret: there are ${{env:…}} and ${{file:…}}",
            works=choice([f"${{{each}:{name}}}" for each in close]) + ", or $${ for a plain ${",
        )
    elif not name.strip():
        yield Problem(where, f"${{{kind}:}} names nothing", works=f"${{{kind}:NAME}}")
    elif not any(where == each or where.startswith(f"{each}.") for each in RESOLVED):
        yield Problem(
            where,
            f"${{{kind}:{name}}} would not be looked up here",
            works=f"references in {choice(RESOLVED)}",
        )


def _strings(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(each, (*path, str(key)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _strings(each, (*path, str(index)))
