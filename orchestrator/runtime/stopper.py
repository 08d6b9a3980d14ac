"""Does somebody want the run to stop? Ctrl-C, SIGTERM, or a request left in its folder."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from orchestrator.coordinator.state import StopBy
from orchestrator.observe.lease import RunLease, stop_requested
from orchestrator.storage import Storage

_FILE_POLL_SECONDS = 1.0

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Remembers the first wish to stop; ``forced`` is set by a second Ctrl-C."""

    def __init__(self, storage: Storage, lease: RunLease) -> None:
        self._storage = storage
        self._lease = lease
        self._polled_at = 0.0
        self.by: StopBy | None = None
        self.forced = False

    def check(self) -> StopBy | None:
        """Who asked for a stop, if anybody did; looks at the run's folder once a second.

        Raises ``Fenced`` when the lease of the run was taken over by somebody else.
        """
        self._lease.check()
        now = time.monotonic()
        if self.by is None and now - self._polled_at >= _FILE_POLL_SECONDS:
            self._polled_at = now
            if stop_requested(self._storage) is not None:
                self.by = "request"
        return self.by

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM inside the block, where signals can be caught at all."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _CAUGHT}
        try:
            self.catch()
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def catch(self) -> None:
        """Catch the signals again, after somebody else did: connecting to Ray sets a handler for
        SIGTERM that ends the process at once."""
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.by == "ctrl-c":
            self.forced = True
        if self.by is None:
            self.by = "ctrl-c" if number == signal.SIGINT else "sigterm"
