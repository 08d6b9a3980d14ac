"""Which cluster carries the run out: a private one on this machine, or one that is there?

Ray starts quietly: no usage statistics, no dashboard, no worker output on the terminal. Ray
reads much of its configuration from the environment when it is imported, so ``prepare``
comes first.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.coordinator.placement import Node
from orchestrator.errors import InfeasibleError
from orchestrator.runtime.submit.address import find_token

NAMESPACE = "axis"
"""The Ray namespace that all runs of one cluster share."""

_REACH_SECONDS = 5.0

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # One more process beside the workers, for notices that nobody acts on yet.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
}


@dataclass(frozen=True)
class Cluster:
    """A connection to a Ray cluster; ``private`` when it lives and dies with this driver."""

    private: bool
    address: str


def prepare() -> None:
    """Set what Ray reads from the environment; a value the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _private_token()


@contextmanager
def connect(address: str | None, num_cpus: int | None) -> Iterator[Cluster]:
    """Connect to ``address``, or start a private cluster when it is ``None`` or ``local``.

    ``num_cpus`` overrides the logical CPUs of a private cluster, as ``ray start --num-cpus``
    does. Raises ``InfeasibleError`` when no cluster answers at the address.
    """
    prepare()
    private = address in (None, "local")
    if address is not None and not private:
        _check_reachable(address)
        _check_token(address)
    import ray

    options = {"include_dashboard": False, "num_cpus": num_cpus} if private else {}
    try:
        context = ray.init(
            address="local" if private else address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if private:
            raise InfeasibleError(f"Ray could not be started on this machine: {error}") from error
        if "auth" in f"{type(error).__name__} {error}".lower():
            raise _no_entry(str(address), _first_line(error)) from error
        raise _no_cluster(str(address), _first_line(error)) from error
    try:
        yield Cluster(private, str(context.address_info.get("gcs_address", address)))
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes where nobody listens; raise ``InfeasibleError`` in seconds."""
    if address.startswith(("http://", "https://")):
        raise InfeasibleError(
            f"{address} is the address of a dashboard, for axis submit; axis run takes part in a "
            "cluster itself\n  works: axis submit, or the address of the head, such as auto or "
            "10.0.0.1:6379"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # auto, or something that Ray knows how to refuse
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _check_token(address: str) -> None:
    """Raise ``InfeasibleError`` for a token that is not the cluster's, which Ray itself finds out
    only after 20 s."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        return
    from orchestrator.runtime.internals.gcs import is_refused

    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    token = find_token(os.environ)
    shown = token.value if token and mode == "token" else None
    if not is_refused(address, shown, _REACH_SECONDS):
        return
    if token is None or mode == "disabled":
        raise _no_entry(address, "it wants a token, and is shown none")
    if shown is not None or is_refused(address, token.value, _REACH_SECONDS):
        raise _no_entry(address, f"the token in {token.said_by} is not its own")
    os.environ["RAY_AUTH_MODE"] = "token"  # Ray shows none by itself to an address that is named


def _no_entry(address: str, reason: str) -> InfeasibleError:
    return InfeasibleError(
        f"the Ray cluster at {address!r} does not let this driver in: {reason}\n"
        "  works: RAY_AUTH_MODE=token with the cluster's token in RAY_AUTH_TOKEN or in the file "
        "RAY_AUTH_TOKEN_PATH names"
    )


def _no_cluster(address: str, reason: str) -> InfeasibleError:
    return InfeasibleError(
        f"no Ray cluster answers at {address!r}: {reason}\n"
        "  works: `ray start --head` on that machine, or leave --address out for a "
        "private cluster on this one"
    )


def live_nodes() -> tuple[Node, ...]:
    """The nodes of the connected cluster that are alive, with all they offer in total."""
    import ray

    return tuple(
        Node(
            id=str(node["NodeID"]),
            resources={
                name: float(count)
                for name, count in node["Resources"].items()
                if not name.startswith(("node:", "object_store_memory"))
            },
            labels={str(k): str(v) for k, v in (node.get("Labels") or {}).items()},
            alive=True,
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def _private_token() -> None:
    """Create Ray's token file readable by its owner alone, before Ray creates it for all.

    Ray 2.60 writes ``~/.ray/auth_token`` with mode 0644 where none exists.
    """
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise InfeasibleError(
            f"Ray needs a token file and {path} cannot be written: {error.strerror}\n"
            "  works: RAY_AUTH_TOKEN_PATH=<a writable file>"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
