"""Where does a worker's own output go? Into the run's folder, one file a worker.

What the Job prints and what it logs is kept in ``logs/attempt-0001/worker-0.log``. On local
storage the file grows as it is written; elsewhere it is uploaded when the worker ends.

With ``AXIS_LOG_FORMAT=json`` every line is one JSON object that says whose it is, there and on the
process's own output, which is what a cluster's log collector reads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TextIO

from orchestrator.storage import Storage

FORMAT_VARIABLE = "AXIS_LOG_FORMAT"

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Conceal = Callable[[str], str]
"""What is done to text before it is kept: secrets that the plan refers to become references."""


def log_path(attempt: int, name: str) -> str:
    """Where the log of ``name`` lies, relative to the run."""
    return f"logs/attempt-{attempt:04d}/{name}.log"


class _Tee:
    """Writes to a log as well as to the stream it stands for: text as it comes, or JSON line by
    line."""

    def __init__(self, stream: TextIO, log: IO[str], conceal: Conceal, whose: Whose | None) -> None:
        self._stream = stream
        self._log = log
        self._conceal = conceal
        self._whose = whose
        self._line = ""

    def write(self, text: str) -> int:
        shown = self._conceal(text)
        if self._whose is not None:
            *lines, self._line = (self._line + shown).split("\n")
            shown = "".join(self._whose.line("INFO", "print", line) for line in lines if line)
        self._log.write(shown)
        if "\n" in shown:
            self._log.flush()
        self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        self._log.flush()
        self._stream.flush()

    def finish(self) -> None:
        """Write what has no end of line yet."""
        if self._line:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Whose:
    """Turns what is said into JSON lines that name who says it."""

    def __init__(self, **labels: str | int) -> None:
        self._labels = labels

    def line(self, level: str, logger: str, message: str) -> str:
        """One line, its end included."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"time": at, "level": level, "logger": logger, "message": message}
        return json.dumps({**fields, **self._labels}) + "\n"


class _Handler(logging.Handler):
    """Writes log records to the worker's file, concealed."""

    def __init__(self, log: IO[str], conceal: Conceal, whose: Whose | None) -> None:
        super().__init__()
        self._log = log
        self._conceal = conceal
        self._whose = whose
        self.setFormatter(logging.Formatter(_TEXT if whose is None else "%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._conceal(self.format(record))
            if self._whose is not None:
                text = self._whose.line(record.levelname, record.name, text)
            self._log.write(text if self._whose is not None else f"{text}\n")
            self._log.flush()
        except Exception:
            self.handleError(record)


class WorkerLog:
    """What is written beside what the Job prints."""

    def __init__(self, log: IO[str], conceal: Conceal, whose: Whose | None) -> None:
        self._log = log
        self._conceal = conceal
        self._whose = whose

    def error(self, text: str) -> None:
        """Why the worker ends."""
        shown = self._conceal(text)
        self._log.write(self._whose.line("ERROR", "worker", shown) if self._whose else shown)


@contextlib.contextmanager
def captured(
    storage: Storage, relative: str, whose: Whose, conceal: Conceal
) -> Iterator[WorkerLog]:
    """Copy everything printed or logged inside the block into ``relative``, concealed. ``whose``
    labels it where JSON is asked for."""
    with contextlib.ExitStack() as stack:
        path = _local_file(storage, relative, stack)
        log = stack.enter_context(path.open("a", encoding="utf-8", errors="replace"))
        labels = whose if os.environ.get(FORMAT_VARIABLE) == "json" else None
        handler = _Handler(log, conceal, labels)
        root = logging.getLogger()
        root.addHandler(handler)
        stack.callback(root.removeHandler, handler)
        out, err = (_Tee(stream, log, conceal, labels) for stream in (sys.stdout, sys.stderr))
        stack.callback(out.finish)
        stack.callback(err.finish)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        yield WorkerLog(log, conceal, labels)


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
