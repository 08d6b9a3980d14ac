"""What does a reference to a secret in a plan stand for? Found out where it is used, nowhere else.

``${env:NAME}`` is an environment variable and ``${file:/path}`` the content of a file, such as a
Kubernetes Secret that is mounted; ``$${`` is a plain ``${``. The plan, and all that is derived from
it (resolved plan, journal, logs, checkpoints, the pages of a dashboard) hold the reference. What it
stands for is looked up in the process that opens the storage or builds the Job, and kept nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import SecretMissing

KINDS = ("env", "file")

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_]+):([^{}]*)\}")
_SHOWN = "***"
_SHORTEST = 4
"""A shorter value is no secret, and would be found in every other word."""


def references(text: str) -> list[tuple[str, str]]:
    """``(kind, name)`` of every reference in ``text``, of known kinds or not."""
    return [(found[1], found[2]) for found in _REFERENCE.finditer(text) if found[1]]


def mask(text: str) -> str:
    """``text`` with ``***`` for every reference: fit for taking apart as a URI, and for showing."""
    return _REFERENCE.sub(lambda found: _SHOWN if found[1] else "${", text)


def resolve(text: str) -> str:
    """``text`` with what its references stand for.

    Raises ``SecretMissing`` for a variable that is not set or a file that cannot be read, here.
    """
    return _REFERENCE.sub(lambda found: _value(found[1], found[2]) if found[1] else "${", text)


def resolve_all(value: Any) -> Any:
    """The same for every string within lists and mappings."""
    if isinstance(value, str):
        return resolve(value)
    if isinstance(value, dict):
        return {key: resolve_all(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(resolve_all(each) for each in value)
    return value


def concealer(value: Any) -> Callable[[str], str]:
    """A function that puts references back in the place of what they stand for, in text that may
    quote it: ``value`` holds the references. For what user code prints and raises."""
    found = {}
    for kind, name in _within(value):
        try:
            secret = _value(kind, name)
        except SecretMissing:
            continue
        if len(secret) >= _SHORTEST:
            found[secret] = f"${{{kind}:{name}}}"
    if not found:
        return lambda text: text
    # The longest first: one secret may hold another.
    pattern = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda each: found[each[0]], text)


def _within(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield from (each for each in references(value) if each[0] in KINDS)
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _within(each)


def _value(kind: str, name: str) -> str:
    where = f"on {os.uname().nodename}"
    if kind == "env":
        found = os.environ.get(name)
        if found is not None:
            return found
        raise SecretMissing(
            f"the plan refers to ${{env:{name}}}, and the variable {name} is not set {where}\n"
            "  works: set it for every node of the cluster, or for `axis run` on this machine; in "
            "Kubernetes, env.valueFrom.secretKeyRef of the pods"
        )
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SecretMissing(
            f"the plan refers to ${{file:{name}}}, which cannot be read {where}: {reason}\n"
            "  works: a file with the secret on every node; in Kubernetes, a Secret that is mounted"
        ) from error
