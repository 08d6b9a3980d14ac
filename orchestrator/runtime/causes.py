"""Why was a worker group lost? Read from what Ray Train raised, never guessed from silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
)

from orchestrator.coordinator.policy import Cause
from orchestrator.errors import AxisError
from orchestrator.runtime.internals import worker_exceptions
from orchestrator.runtime.worker import UserCodeError


@dataclass(frozen=True)
class Loss:
    """Why the group was lost, in one line, and the user's traceback where it was their code.

    ``error`` is our own exception when a worker raised one: it decides the exit code.
    """

    cause: Cause
    message: str
    user_traceback: str = ""
    error: AxisError | None = None


def diagnose(error: BaseException) -> Loss:
    """The loss behind an exception of ``TorchTrainer.fit``.

    One cause is chosen for the group: what a worker's own code said goes before what its
    peers noticed of its end.
    """
    failures = worker_exceptions(error) or {-1: error}
    chains = {rank: list(_chain(failure)) for rank, failure in failures.items()}
    for rank, chain in chains.items():
        for link in chain:
            if isinstance(link, AxisError):
                return Loss("user", str(link), error=link)
            if isinstance(link, UserCodeError):
                last = str(link).strip().splitlines()[-1]
                return Loss("user", f"worker {rank}: {last}", user_traceback=str(link))
    for rank, chain in chains.items():
        for link in chain:
            if isinstance(link, OutOfMemoryError):
                return Loss("oom", f"worker {rank} ran out of memory: {_first_line(link)}")
            if isinstance(link, NodeDiedError) or _node_is_gone(link):
                return Loss("node", f"worker {rank}: its node died")
    for rank, chain in chains.items():
        for link in chain:
            if isinstance(link, (ActorDiedError, ActorUnavailableError, RayActorError)):
                return Loss("worker", f"worker {rank} died: {_first_line(link)}")
    rank, chain = next(iter(chains.items()))
    who = f"worker {rank}" if rank >= 0 else "the worker group"
    return Loss("worker", f"{who}: {type(chain[-1]).__name__}: {_first_line(chain[-1])}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything it was raised from, Ray's wrappings opened."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        link = queue.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [
            getattr(link, name, None)
            for name in ("cause", "_base_exc", "controller_failure", "health_check_failure")
        ]
        queue += [item for item in inner if isinstance(item, BaseException)]
        queue += [link.__cause__, link.__context__]


def _node_is_gone(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, ray.exceptions.RayError) and "node died" in text.lower()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
