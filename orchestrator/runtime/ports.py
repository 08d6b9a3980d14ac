"""Can an address be listened on, and if not, which one can? Asked before Ray is started.

Knows nothing of what will listen there.
"""

from __future__ import annotations

import errno
import socket

from orchestrator.errors import Problem

_NEXT_PORTS = 100
_LOWEST_UNPRIVILEGED_PORT = 1024


def port_problem(host: str, port: int) -> Problem | None:
    """Why ``host``:``port`` cannot be listened on, and one that can; ``None`` if it can.

    A port that is free now may be taken a moment later: this spares the wait, not the error.
    """
    failure = _failure(host, port)
    if failure is None:
        return None
    if isinstance(failure, socket.gaierror) or failure.errno == errno.EADDRNOTAVAIL:
        return Problem(
            "inference.host",
            f"{host} is not an address of this machine",
            works="127.0.0.1, or 0.0.0.0 for all of its addresses",
        )
    why = "is in use" if failure.errno == errno.EADDRINUSE else f"is refused: {failure.strerror}"
    return Problem(
        "inference.port",
        f"port {port} of {host} {why}",
        works=_free(host, port) or "a port that is free",
    )


def _free(host: str, port: int) -> str:
    first = max(port + 1, _LOWEST_UNPRIVILEGED_PORT)
    candidates = range(first, min(first + _NEXT_PORTS, 65536))
    found = next((each for each in candidates if _failure(host, each) is None), None)
    return f"inference.port={found}, which is free" if found else ""


def _failure(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None
