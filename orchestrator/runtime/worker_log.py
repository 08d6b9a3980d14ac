"""Where does a worker's own output go? Into the run's folder, one file a worker.

What the Job prints and what it logs is kept in ``logs/attempt-0001/worker-0.log``. On local
storage the file grows as it is written; elsewhere it is uploaded when the worker ends.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from orchestrator.storage import Storage


def log_path(attempt: int, name: str) -> str:
    """Where the log of ``name`` lies, relative to the run."""
    return f"logs/attempt-{attempt:04d}/{name}.log"


class _Tee:
    """Writes to a log as well as to the stream it stands for."""

    def __init__(self, stream: TextIO, log: IO[str]) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        if "\n" in text:
            self._log.flush()
        return self._stream.write(text)

    def flush(self) -> None:
        self._log.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def captured(storage: Storage, relative: str) -> Iterator[IO[str]]:
    """Copy everything printed or logged inside the block into ``relative``."""
    with contextlib.ExitStack() as stack:
        path = _local_file(storage, relative, stack)
        log = stack.enter_context(path.open("a", encoding="utf-8", errors="replace"))
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        stack.callback(root.removeHandler, handler)
        stack.enter_context(contextlib.redirect_stdout(_Tee(sys.stdout, log)))
        stack.enter_context(contextlib.redirect_stderr(_Tee(sys.stderr, log)))
        yield log


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
