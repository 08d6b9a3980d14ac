"""Where does a worker's own output go? Into the run's folder, one file a worker.

What the Job prints and what it logs is kept in ``logs/attempt-0001/worker-0.log``. On local
storage the file grows as it is written; elsewhere it is uploaded when the worker ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from orchestrator.runtime.labelled import Conceal, Whose, json_wanted, labelled
from orchestrator.storage import Storage


def log_path(attempt: int, name: str) -> str:
    """Where the log of ``name`` lies, relative to the run."""
    return f"logs/attempt-{attempt:04d}/{name}.log"


class WorkerLog:
    """What is written beside what the Job prints."""

    def __init__(self, log: IO[str], conceal: Conceal, whose: Whose) -> None:
        self._log = log
        self._conceal = conceal
        self._whose = whose

    def error(self, text: str) -> None:
        """Why the worker ends."""
        shown = self._conceal(text)
        self._log.write(self._whose.line("ERROR", "worker", shown) if json_wanted() else shown)


@contextlib.contextmanager
def captured(
    storage: Storage, relative: str, whose: Whose, conceal: Conceal
) -> Iterator[WorkerLog]:
    """Copy everything printed or logged inside the block into ``relative``, concealed. ``whose``
    labels it where JSON is asked for."""
    with contextlib.ExitStack() as stack:
        path = _local_file(storage, relative, stack)
        log = stack.enter_context(path.open("a", encoding="utf-8", errors="replace"))
        stack.enter_context(labelled(whose, conceal, log))
        yield WorkerLog(log, conceal, whose)


def _local_file(storage: Storage, relative: str, stack: contextlib.ExitStack) -> Path:
    if storage.is_local:
        path = storage.local_path(relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="axis-log-")))
    path = folder / "worker.log"
    path.touch()
    stack.callback(lambda: storage.write_atomic(relative, path.read_bytes()))
    return path
