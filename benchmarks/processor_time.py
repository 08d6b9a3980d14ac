"""How much of a core does each process take while something else is measured?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

_EVERY_SECONDS = 2.0


@dataclass
class ProcessorTime:
    """Processor seconds of every process, by when they were looked at."""

    names: dict[int, str] = field(default_factory=dict)
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def look(self) -> None:
        """Note what each process has used up to now."""
        now = time.time()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                used = process.cpu_times()
                self.names[process.pid] = " ".join(process.cmdline()) or process.name()
                self.seen.setdefault(process.pid, []).append((now, used.user + used.system))

    def shares(self, begun: float, ended: float) -> Mapping[int, float]:
        """The share of one core that each process took between two times of the wall clock, for
        those that were there all the while."""
        found = {}
        for pid, points in self.seen.items():
            within = [point for point in points if begun <= point[0] <= ended]
            if len(within) > 1 and within[0][0] <= begun + 2 * _EVERY_SECONDS:
                (first, before), (last, after) = within[0], within[-1]
                found[pid] = (after - before) / (last - first)
        return found


@contextmanager
def watched() -> Iterator[ProcessorTime]:
    """Look at all processes every two seconds while the block goes on."""
    found, over = ProcessorTime(), threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY_SECONDS):
            found.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
