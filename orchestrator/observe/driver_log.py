"""What did the driver say? Every line it shows is kept in the run, by attempt."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.observe.display import Display, begun_text
from orchestrator.storage import Storage

_MOST_WAITING = 10_000


class LoggedDisplay:
    """A display that also writes ``logs/attempt-0001/driver.log``.

    Lines that come before the attempt has a number wait for it, as do those that storage refuses.
    Safe to use from several threads.
    """

    def __init__(self, display: Display, run: Storage) -> None:
        self._display = display
        self._run = run
        self._path = ""
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.Lock()

    def number(self, attempt: int) -> None:
        """From now on lines belong to this attempt."""
        path = f"logs/attempt-{attempt:04d}/driver.log"
        with self._lock:
            if path == self._path:
                return
            self._path = path
            self._write()

    def log(self, text: str) -> None:
        """Keep a line without showing it."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        line = "".join(f"{stamp} {part}\n" for part in text.splitlines())
        with self._lock:
            self._waiting.append(line)
            if self._path:
                self._write()

    def _write(self) -> None:
        """Append what waits. What storage refuses waits for the next line: a log must not end the
        run that it tells of."""
        if not self._waiting:
            return
        try:
            self._run.append(self._path, "".join(self._waiting).encode())
        except StorageError:
            return
        self._waiting.clear()

    def begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        """A phase begins."""
        self.log(begun_text(phase, total, unit, done))
        self._display.begin(phase, total, unit, done)

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """So many units are done; not logged, the metrics have it."""
        self._display.advance(phase, done, note)

    def finish(self, phase: str, note: str = "") -> None:
        """The phase is over."""
        self.log(f"{phase}: over" + (f", {note}" if note else ""))
        self._display.finish(phase, note)

    def line(self, text: str) -> None:
        """One line for the person."""
        self.log(text)
        self._display.line(text)

    def event(self, fields: Mapping[str, Any]) -> None:
        """One event for the program; not logged, journal and metrics have it."""
        self._display.event(fields)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()
