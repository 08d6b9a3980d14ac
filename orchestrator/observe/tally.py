"""How far is a phase, how fast does it go, and how long is left?

Counts and clock alone; how they are shown is in ``display``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.observe.wording import format_seconds

_LEAST_SECONDS = 0.005
"""News of many units may come in one message, between whose lines no time goes by."""


class Tally:
    """One phase under way: ``done`` of ``total`` units.

    ``total`` 0: nothing is counted, the phase is only waited for. The rate is that since
    counting began, the elapsed time that since the phase began: workers that start for ten
    seconds do not slow down the steps that follow.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self.count(total, unit, done)

    def count(self, total: int, unit: str, done: int = 0) -> None:
        """Counting begins, or begins anew from ``done``; the phase goes on."""
        self.total, self.unit, self.done = total, unit, done
        self._first, self._counting_since = done, self._clock()
        self._moved_at = self._counting_since

    def advance(self, done: int) -> None:
        """So many units are done by now."""
        if done != self.done:
            self._moved_at = self._clock()
        self.done = done

    @property
    def elapsed_seconds(self) -> float:
        """Since the phase began."""
        return self._clock() - self._began

    @property
    def rate(self) -> float | None:
        """Units a second from when counting began to the last that was done; ``None`` before
        anything is done, and where all that is known came in one message."""
        elapsed = self._moved_at - self._counting_since
        return (self.done - self._first) / elapsed if elapsed >= _LEAST_SECONDS else None

    @property
    def left_seconds(self) -> float | None:
        """What is left at that rate; ``None`` while there is no rate."""
        rate = self.rate
        if not rate or rate < 0:
            return None
        return max(0.0, (self.total - self.done) / rate - (self._clock() - self._moved_at))

    def count_text(self) -> str:
        """``66/300 steps``; empty where nothing is counted."""
        return f"{self.done:,}/{self.total:,} {self.unit}" if self.total else ""

    def rate_text(self) -> str:
        """``71.1/s``, ``2.1/min``; empty without a rate."""
        rate = self.rate
        if not rate or rate < 0:
            return ""
        if rate < 0.1:
            return f"{rate * 60:.1f}/min"
        return f"{rate:,.1f}/s" if rate < 1000 else f"{rate:,.0f}/s"

    def time_text(self) -> str:
        """``3 s, 1:05 left``: the time elapsed, and the time left where there is a rate."""
        elapsed, left = _whole(self.elapsed_seconds), self.left_seconds
        return f"{elapsed}, {_whole(left)} left" if left is not None else elapsed

    def closing_text(self, note: str = "") -> str:
        """``300/300 steps in 18 s, 71.1/s; note``: what is said of a phase that is over."""
        took = format_seconds(self.elapsed_seconds)
        if not self.total:
            return f"{took}; {note}" if note else took
        parts = [f"{self.count_text()} in {took}", self.rate_text()]
        text = ", ".join(part for part in parts if part)
        return f"{text}; {note}" if note else text


def _whole(seconds: float) -> str:
    """``12 s``, ``3:05``, ``1:20:00``: short, for it stands beside a bar."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
