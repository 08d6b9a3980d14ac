"""Why was a worker group lost? Read from what Ray Train raised, never guessed from silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from orchestrator.runtime.internals.train import worker_exceptions
from orchestrator.runtime.worker import UserCodeError, WorkerMemoryError


@dataclass(frozen=True)
class Loss:
    """Why the group was lost, in one line, and the user's traceback where it was their code.

    ``error`` is our own exception when a worker raised one: it decides the exit code. ``rank`` is
    the worker that is to blame, ``ranks_of_lost_nodes`` are those whose nodes are gone.
    """

    cause: Cause
    message: str
    user_traceback: str = ""
    error: AxisError | None = None
    rank: int | None = None
    ranks_of_lost_nodes: tuple[int, ...] = ()


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
                return Loss("user", f"worker {rank}: {last}", user_traceback=str(link), rank=rank)
    for rank, chain in chains.items():
        for link in chain:
            if isinstance(link, (OutOfMemoryError, WorkerMemoryError)):
                return Loss(
                    "oom", f"worker {rank} ran out of memory: {_first_line(link)}", rank=rank
                )
    lost = tuple(sorted(rank for rank, chain in chains.items() if any(map(_node_is_gone, chain))))
    if lost:
        return lost_nodes(lost)
    for rank, chain in chains.items():
        for link in chain:
            if isinstance(link, (ActorDiedError, ActorUnavailableError, RayActorError)):
                return Loss("worker", _death(rank, link), rank=rank)
    rank, chain = next(iter(chains.items()))
    who = f"worker {rank}" if rank >= 0 else "the worker group"
    return Loss("worker", f"{who}: {type(chain[-1]).__name__}: {_first_line(chain[-1])}")


def killed_for_memory(loss: Loss) -> Loss:
    """The same loss, known to be the kernel's doing."""
    message = f"worker {loss.rank} was killed by the kernel, because memory ran out"
    return replace(loss, cause="oom", message=message)


def lost_nodes(ranks: tuple[int, ...]) -> Loss:
    """The loss of the nodes that these workers were on."""
    known = tuple(rank for rank in ranks if rank >= 0)
    who = f"worker {', '.join(map(str, known))}" if known else "the worker group"
    return Loss("node", f"{who}: the node died", ranks_of_lost_nodes=known)


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
    if isinstance(error, NodeDiedError):
        return True
    return isinstance(error, ray.exceptions.RayError) and "node died" in str(error).lower()


def _death(rank: int, error: BaseException) -> str:
    """Who died, and what is known of how, out of Ray's many lines."""
    text = str(error)
    pid, host = re.search(r"\bpid: (\d+)", text), re.search(r"\bip: (\S+)", text)
    where = f" (pid {pid[1]} on {host[1]})" if pid and host else ""
    how = _first_line(error)
    if "Worker exit type: SYSTEM_ERROR" in text:
        how = "its process ended without a word, as it does when it is killed or crashes"
    return f"worker {rank}{where} died: {how}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
