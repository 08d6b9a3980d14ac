"""Processes that import torch once and then act as process groups of any size, again and again."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

TIMEOUT_SECONDS = 90.0


class CaseFailed(AssertionError):
    """A case raised in a worker; ``errors`` holds each rank's exception, or None."""

    def __init__(self, errors: Sequence[BaseException | None], texts: Sequence[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(text for text in texts if text))


class Gang:
    """``num_workers`` spawned processes, of which a case uses the first few."""

    def __init__(self, num_workers: int) -> None:
        # Forked from a process that has imported what takes long, once for all of them.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["gloo_cases"])
        self.connections: list[Connection] = []
        self.processes = []
        self.folder = tempfile.TemporaryDirectory()
        self.num_runs = 0
        for _ in range(num_workers):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            self.connections.append(here)
            self.processes.append(process)

    def run(self, case: str, size: int, *arguments: Any) -> list[Any]:
        """``case(*arguments)`` on ``size`` ranks; their results by rank.

        A case is a function of ``gloo_cases``, or of another module: ``module:case``.
        """
        self.start(case, size, *arguments)
        return self.results(size)

    def start(self, case: str, size: int, *arguments: Any) -> None:
        """Begin with a case, and do not wait for it."""
        self.num_runs += 1
        rendezvous = str(Path(self.folder.name) / f"group-{self.num_runs}")
        for rank in range(size):
            order = (self.num_runs, case, rank, size, rendezvous, arguments)
            self.connections[rank].send(order)

    def results(self, size: int) -> list[Any]:
        """What came of the case that was started on ``size`` ranks."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        answers = [self._receive(rank, deadline) for rank in range(size)]
        if any(error is not None for _, error, _ in answers):
            raise CaseFailed([a[1] for a in answers], [a[2] for a in answers])
        return [value for value, _, _ in answers]

    def _receive(self, rank: int, deadline: float) -> Any:
        """A rank's answer to this run; those to runs that nobody waits for any more are dropped."""
        while self.connections[rank].poll(max(0.0, deadline - time.monotonic())):
            number, *answer = self.connections[rank].recv()
            if number == self.num_runs:
                return answer
        raise TimeoutError(f"rank {rank} did not answer in {TIMEOUT_SECONDS:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            stack.callback(self.folder.cleanup)
            for connection in self.connections:
                connection.close()
            for process in self.processes:
                process.kill()  # they hold nothing that would be lost
                process.join(5)


def _serve(connection: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            number, case, rank, size, rendezvous, arguments = connection.recv()
        except EOFError:
            return
        try:
            value = _in_group(_find(case), rank, size, rendezvous, arguments)
            connection.send((number, value, None, ""))
        except BaseException as error:
            connection.send((number, None, error, f"rank {rank}: {traceback.format_exc()}"))


def _find(case: str) -> Any:
    module, _, name = case.rpartition(":")
    return getattr(importlib.import_module(module or "gloo_cases"), name)


def _in_group(case: Any, rank: int, size: int, rendezvous: str, arguments: Any) -> Any:
    import torch.distributed as dist

    if size == 1:
        return case(*arguments)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    try:
        return case(*arguments)
    finally:
        dist.destroy_process_group()
        _forget_meshes()
        gc.collect()


def _forget_meshes() -> None:
    """DTensor remembers results by mesh, and with them the names of groups that are gone."""
    from torch.distributed.tensor import debug

    debug._clear_python_sharding_prop_cache()
    debug._clear_fast_path_sharding_prop_cache()
