"""Which cluster is meant, and with which token is it spoken to?

Asked without Ray, whose import alone takes longer than a refusal may. The order of addresses is
that of ``ray job submit``: what the command line says, ``RAY_API_SERVER_ADDRESS``, ``RAY_ADDRESS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import InfeasibleError

DEFAULT_URL = "http://127.0.0.1:8265"
"""Where the dashboard of a cluster on this machine listens, and with it the Jobs API."""

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
DEFAULT_TOKEN_PATH = "~/.ray/auth_token"


@dataclass(frozen=True)
class Address:
    """An address as it was given, and by what."""

    text: str
    said_by: str

    @property
    def is_http(self) -> bool:
        """Whether it names the Jobs API itself."""
        return self.text.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Token:
    """A cluster's token, which must be shown nowhere, and where it came from."""

    value: str = field(repr=False)
    said_by: str

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self.value}"}


def choose_address(flag: str | None, environment: Mapping[str, str]) -> Address:
    """The address that counts."""
    if flag:
        return _address(flag, "--address")
    for name in VARIABLES:
        if environment.get(name):
            return _address(environment[name], name)
    return Address(DEFAULT_URL, "no --address, RAY_API_SERVER_ADDRESS or RAY_ADDRESS")


def find_token(environment: Mapping[str, str]) -> Token | None:
    """The token that Ray itself would use: ``RAY_AUTH_TOKEN``, the file that
    ``RAY_AUTH_TOKEN_PATH`` names, ``~/.ray/auth_token``.

    Raises ``InfeasibleError`` for a file that was named, but cannot be read.
    """
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if value := environment.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or DEFAULT_TOKEN_PATH).expanduser()
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if named is None:
            return None
        reason = getattr(error, "strerror", None) or error
        raise InfeasibleError(
            f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read: {reason}\n"
            "  works: a file that holds the cluster's token, readable by you alone (mode 0600)"
        ) from error
    return Token(value, str(path)) if value else None


def is_token_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the token is shown without having been asked for."""
    named = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    return mode == "token" or (named and mode != "disabled")


def _address(text: str, said_by: str) -> Address:
    return Address(text.strip().rstrip("/"), said_by)
