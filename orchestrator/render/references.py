"""Which secrets does a plan name, and does it hold one that it should only name?

A secret is referred to as ``${env:NAME}`` or ``${file:PATH}``; what is written out instead would
be read by everybody who may read the manifest. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.errors import Problem
from orchestrator.plan.dump import plan_values
from orchestrator.plan.plan import Plan

SERVE_TOKEN = "AXIS_SERVE_TOKEN"
"""The environment variable that holds the bearer token of what is served, where the plan names
none."""

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]*:[^/?#]*@")
_KEYS = re.compile(r"(?:^|&)([^=&]+)=")
_SECRET_WORDS = ("password", "secret", "token", "credential", "api_key", "apikey", "access_key")


def closed(plan: Plan) -> Plan:
    """The plan whose application asks for a bearer token; one that names a token keeps it."""
    if plan.inference is None or plan.inference.token:
        return plan
    inference = plan.inference.model_copy(update={"token": f"${{env:{SERVE_TOKEN}}}"})
    return plan.model_copy(update={"inference": inference})


def secret_names(plan: Plan) -> tuple[str, ...]:
    """The environment variables that the plan refers to, by name."""
    texts = (text for _, text in _texts(plan_values(plan), ""))
    return tuple(sorted({name for text in texts for name in _ENV.findall(text)}))


def written_out(plan: Plan) -> list[Problem]:
    """Values that look like secrets: a user and password, or a key, in a URI."""
    return [
        Problem(
            where,
            "a secret is written out, and a manifest is no place for one",
            f"the URI carries {what}",
            "leave it out and name it: env_secrets in the profile (such as AWS_ACCESS_KEY_ID), or "
            "workload identity (service_account_annotations)",
        )
        for where, text in _texts(plan_values(plan), "")
        if (what := _carried(text))
    ]


def _carried(text: str) -> str:
    """What a URI gives away: ``scheme://user:password@…``, or ``…?secret_key=…``."""
    if "://" not in text or _ENV.search(text):
        return ""
    if _USER.match(text):
        return "a user and a password"
    keys = _KEYS.findall(text.partition("?")[2])
    found = [key for key in keys if any(word in key.lower() for word in _SECRET_WORDS)]
    return found[0] if found else ""


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _texts(each, f"{where}[{index}]")
