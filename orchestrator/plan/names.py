"""What may a run and a Job be called?

Names are checked by their spelling alone; whether the module exists is asked elsewhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from orchestrator.plan.refusal import Refusal

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LIMIT = 47
"""Letters a name may have: what KubeRay leaves for the name of a RayJob."""
TARGET_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def parse_name(value: Any) -> str:
    """A run's name: lower-case letters, digits and dashes, at most 47, starting with a letter.

    Raises ``Refusal`` with a valid name that resembles the one given.
    """
    text = _text(value, "a name such as gpt-stdlib")
    if len(text) > NAME_LIMIT:
        raise Refusal(
            f"the name has {len(text)} characters; at most {NAME_LIMIT} fit everywhere",
            works=suggest_name(text),
        )
    if not re.match(NAME_PATTERN, text):
        raise Refusal(
            f'"{text}" is not a name: only lower-case letters, digits and dashes, '
            "starting with a letter and not ending with a dash",
            works=suggest_name(text),
        )
    return text


def suggest_name(text: str) -> str:
    """The valid name nearest to ``text``."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"run-{slug}".rstrip("-")
    return slug[:NAME_LIMIT].rstrip("-")


def parse_target(value: Any) -> str:
    """``module:attribute``, as in ``jobs.gpt:GPT``.

    Raises ``Refusal``, with the spelling that was probably meant where it can be told.
    """
    text = _text(value, "module:Class such as jobs.gpt:GPT")
    if re.match(TARGET_PATTERN, text):
        return text
    raise Refusal(
        f'"{text}" is not of the form module:Class, such as jobs.gpt:GPT',
        works=suggest_target(text),
    )


def suggest_target(text: str) -> str:
    """``jobs/gpt.py:GPT`` and ``jobs.gpt.GPT`` → ``jobs.gpt:GPT``; empty where unclear."""
    module, _, attribute = text.strip().partition(":")
    module = module.removeprefix("./").removesuffix(".py").replace("/", ".")
    if not attribute and "." in module and module.rpartition(".")[2][:1].isupper():
        module, _, attribute = module.rpartition(".")
    spelled = f"{module}:{attribute}"
    return spelled if re.match(TARGET_PATTERN, spelled) else ""


def _text(value: Any, expected: str) -> str:
    if not isinstance(value, str):
        raise Refusal(f"expected {expected}, not {value!r}")
    return value


RunName = Annotated[
    str,
    BeforeValidator(parse_name),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN, "maxLength": NAME_LIMIT}),
]
"""A run's name."""

Target = Annotated[
    str,
    BeforeValidator(parse_target),
    WithJsonSchema({"type": "string", "pattern": TARGET_PATTERN}),
]
"""``module:attribute``."""
