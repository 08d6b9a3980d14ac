"""Does a cluster answer, does it let us in, and does it speak our version of Ray?

One request with a deadline, before Ray is imported: whoever has the wrong token, or names a
machine that is not there, hears of it in a second or two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as package_version

import httpx
from packaging.version import InvalidVersion, Version

from orchestrator.errors import InfeasibleError
from orchestrator.runtime.submit.address import (
    DEFAULT_URL,
    Address,
    Token,
    choose_address,
    find_token,
    is_token_wanted,
)

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0

OLDEST_RAY = Version("2.60")
NEWER_THAN_KNOWN_RAY = Version("2.62")
"""What ``pyproject.toml`` admits; a test holds them together."""


@dataclass(frozen=True)
class Api:
    """A Jobs API that answered and let us in."""

    url: str
    ray_version: str
    token: Token | None

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return self.token.headers if self.token else {}


def reach(flag: str | None, environment: Mapping[str, str] | None = None) -> Api:
    """The Jobs API that is meant.

    Raises ``InfeasibleError`` where nobody answers, where it does not let us in, and where it is
    of a version of Ray that this one does not speak with.
    """
    environment = os.environ if environment is None else environment
    address = choose_address(flag, environment)
    url = _url(address)
    token = find_token(environment)
    shown = token if is_token_wanted(environment) else None
    answer = _ask(address, url, shown)
    if answer.status_code == 401 and shown is None and token is not None:
        answer, shown = _ask(address, url, token), token
    if answer.status_code in (401, 403):
        raise _no_entry(url, answer.status_code, shown, environment)
    return Api(url, _ray_version(address, url, answer), shown)


def _url(address: Address) -> str:
    if address.is_http:
        return address.text
    if address.text == "auto":
        return DEFAULT_URL
    if "://" not in address.text and ":" in address.text:
        return f"http://{address.text}"
    raise InfeasibleError(
        f"{address.said_by} gives {address.text!r}, which is not the address of a Jobs API\n"
        "  works: the address of the dashboard, such as http://head:8265 "
        "(kubectl port-forward svc/<cluster>-head-svc 8265 brings it to this machine)"
    )


def _ask(address: Address, url: str, token: Token | None) -> httpx.Response:
    limits = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        headers = token.headers if token else {}
        return httpx.get(f"{url}/api/version", headers=headers, timeout=limits)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _no_cluster(address, url, str(error) or type(error).__name__) from error


def _no_cluster(address: Address, url: str, reason: str) -> InfeasibleError:
    given = "" if address.said_by == "--address" else f" ({address.said_by})"
    return InfeasibleError(
        f"no Jobs API of a Ray cluster answers at {url}{given}: {reason}\n"
        "  works: --address http://<head>:8265, the dashboard's port; on Kubernetes first "
        "kubectl port-forward svc/<cluster>-head-svc 8265; without a cluster: axis run"
    )


def _no_entry(
    url: str, status: int, shown: Token | None, environment: Mapping[str, str]
) -> InfeasibleError:
    if shown is not None:
        what = f"the token in {shown.said_by} is not this cluster's"
    elif environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        what = "it wants a token, and RAY_AUTH_MODE=disabled keeps one from being sent"
    else:
        what = "it wants a token, and there is none here"
    return InfeasibleError(
        f"the Ray cluster at {url} does not let you in ({status}): {what}\n"
        "  works: the cluster's token in RAY_AUTH_TOKEN, or in the file RAY_AUTH_TOKEN_PATH "
        "names (mode 0600)"
    )


def _ray_version(address: Address, url: str, answer: httpx.Response) -> str:
    try:
        text = str(answer.raise_for_status().json()["ray_version"])
        version = Version(text)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, InvalidVersion) as error:
        raise _no_cluster(
            address, url, f"what answers there is something else (status {answer.status_code})"
        ) from error
    if OLDEST_RAY <= version < NEWER_THAN_KNOWN_RAY:
        return text
    raise InfeasibleError(
        f"the cluster at {url} runs Ray {text}; this axis works with "
        f"{OLDEST_RAY} ≤ Ray < {NEWER_THAN_KNOWN_RAY} (here: {package_version('ray')})\n"
        f"  works: a cluster of Ray {package_version('ray')}, such as an image built from deploy/"
    )
