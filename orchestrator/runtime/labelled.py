"""Whose is each line that a process writes? With ``AXIS_LOG_FORMAT=json`` every line says it.

What is printed or logged goes to the process's own output, which a cluster's log collector reads,
and to a log beside it where there is one. Secrets that the plan refers to become references.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any, Literal, TextIO, TypeGuard

FORMAT_VARIABLE = "AXIS_LOG_FORMAT"

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Conceal = Callable[[str], str]
"""What is done to text before it is kept: secrets that the plan refers to become references."""


def json_wanted() -> bool:
    """Whether lines are to be JSON objects."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


@dataclass(frozen=True)
class Whose:
    """Who says something, and how that is said in JSON. ``rank`` is a training worker's, a
    replica's, or the number of the shard that a data task builds."""

    run: str
    attempt: int
    axis: Literal["data", "training", "inference"]
    rank: int

    def line(self, level: str, logger: str, message: str) -> str:
        """One line, its end included."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"time": at, "level": level, "logger": logger, "message": message}
        return json.dumps({**fields, **asdict(self)}) + "\n"


class _Stream:
    """Stands for ``own``, a standard stream, and writes to it and to a log: text as it comes, or
    JSON line by line."""

    def __init__(
        self, own: TextIO, log: IO[str] | None, conceal: Conceal, whose: Whose | None
    ) -> None:
        self.own = own
        self._log = log
        self._conceal = conceal
        self._whose = whose
        self._line = ""

    def write(self, text: str) -> int:
        shown = self._conceal(text)
        if self._whose is not None:
            *lines, self._line = (self._line + shown).split("\n")
            shown = "".join(self._whose.line("INFO", "print", line) for line in lines if line)
        if self._log is not None:
            self._log.write(shown)
            if "\n" in shown:
                self._log.flush()
        self.own.write(shown)
        return len(text)

    def flush(self) -> None:
        if self._log is not None:
            self._log.flush()
        self.own.flush()

    def finish(self) -> None:
        """Write what has no end of line yet."""
        if self._line:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


class _Handler(logging.Handler):
    """Writes log records to all of ``targets``, concealed."""

    def __init__(self, targets: list[IO[str]], conceal: Conceal, whose: Whose | None) -> None:
        super().__init__()
        self._targets = targets
        self._conceal = conceal
        self._whose = whose
        self.setFormatter(logging.Formatter(_TEXT if whose is None else "%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._conceal(self.format(record))
            if self._whose is not None:
                text = self._whose.line(record.levelname, record.name, text)
            for target in self._targets:
                target.write(text if self._whose is not None else f"{text}\n")
                target.flush()
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def concealed(conceal: Conceal) -> Iterator[None]:
    """Conceal everything printed inside the block."""
    with (
        contextlib.redirect_stdout(_Stream(sys.stdout, None, conceal, None)),
        contextlib.redirect_stderr(_Stream(sys.stderr, None, conceal, None)),
    ):
        yield


@contextlib.contextmanager
def labelled(whose: Whose, conceal: Conceal, log: IO[str] | None = None) -> Iterator[None]:
    """Conceal everything printed or logged inside the block, copy it into ``log``, and label it
    with ``whose`` where JSON is asked for.

    Log records reach the process's own output once: by the handlers that were there, or from here
    where there was none, or where JSON is asked for.
    """
    labels = whose if json_wanted() else None
    with contextlib.ExitStack() as stack:
        streams = [_Stream(own, log, conceal, labels) for own in (sys.stdout, sys.stderr)]
        targets = [] if log is None else [log]
        if not stack.enter_context(_handled(conceal, labels)):
            targets.append(sys.stderr)
        ours = _Handler(targets, conceal, labels)
        logging.getLogger().addHandler(ours)
        stack.callback(logging.getLogger().removeHandler, ours)
        for stream in streams:
            stack.callback(stream.finish)
        stack.enter_context(contextlib.redirect_stdout(streams[0]))
        stack.enter_context(contextlib.redirect_stderr(streams[1]))
        yield


@contextlib.contextmanager
def _handled(conceal: Conceal, labels: Whose | None) -> Iterator[bool]:
    """Whether the root logger's handlers write to the process's own output. What they write is
    concealed; where lines are to be labelled they are put aside."""
    root = logging.getLogger()
    own = [each for each in root.handlers if _is_output(each)]
    for handler in own:
        if labels is not None:
            root.removeHandler(handler)
        else:
            handler.stream = _Stream(handler.stream, None, conceal, None)
    try:
        yield bool(own) and labels is None
    finally:
        for handler in own:
            if labels is not None:
                root.addHandler(handler)
            else:
                handler.stream = handler.stream.own


def _is_output(handler: logging.Handler) -> TypeGuard[logging.StreamHandler[Any]]:
    own = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and handler.stream in own
