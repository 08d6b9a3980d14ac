"""How much of a step was this worker's own work, and how much did it wait for the others?

All workers end a step together, so that the time of a step says nothing of who was slow. What tells
is how long each had something to do. Linux counts, to the nanosecond, how long a thread has run and
how long it could have run, had it been let (another process had the processor, or a cgroup's quota
was used up): that is own work. Asleep, it waits for other workers, or for something of its own: a
lock, a disk, the Job's own call to somewhere. A thread looks now and then at where the sleeper
is. On an accelerator, whose work goes on without the thread, and where the system does not count
so, nothing is said.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from types import TracebackType
from typing import Self

from orchestrator.parallel.channel import Own
from orchestrator.parallel.watchdog import is_waiting

_CLOSELY_SECONDS, _OFTEN_SECONDS, _SELDOM_SECONDS = 0.005, 0.02, 0.1
"""From one look to the next while the thread sleeps over work of its own, while it sleeps now and
then, and while it hardly does: looking takes 0.03 ms of a processor, which only who sleeps has to
spare. Each pause is up to half longer or shorter, or steps of that length would be looked at in
the same place each time."""
_CLOSE_LOOKS = 50
"""So many looks are close ones after one that found own work."""
_HELD_SECONDS = 0.5
"""A process in which nobody looked for so long was held as a whole: stopped, frozen, or starved."""
_LOOKING_SHARE = 0.01
"""Looking takes no more of a processor than this. With two workers to a core nearly all looks were
close ones, and each took longer: 1.7 % of a core was measured."""
_NAP_SHARE = 0.1
"""One that has slept for less is not looked at."""
_NANOSECONDS = 1e9


class Busy:
    """Counts own work of the thread that makes it, between ``begin`` and ``end``.

    Nothing is counted outside of ``with``. What it cannot see: the share of other threads of the
    same operation (``training.threads``), which is much the same on all workers.
    """

    def __init__(self, device: str) -> None:
        self._thread_id = threading.get_ident()
        self._on_cpu = device == "cpu"
        self._counter: int | None = None
        self._lock = threading.Lock()
        self._inside = False
        self._at = self._ran = self._seconds = self._guessed = 0.0
        self._num_close = 0
        self._closing = False
        self._thread = threading.Thread(target=self._look_on, name="axis-busy", daemon=True)

    def begin(self) -> None:
        """From here on."""
        if self._counter is None:
            return
        with self._lock:
            self._at, self._ran = time.monotonic(), _runnable_seconds(self._counter)
            self._seconds, self._guessed, self._inside = 0.0, 0.0, True

    def end(self) -> Own | None:
        """Own work since ``begin``; ``None`` where nobody can tell."""
        if self._counter is None:
            return None
        with self._lock:
            self._count(looking=False)
            self._inside = False
            return Own(self._seconds, self._guessed)

    def __enter__(self) -> Self:
        self._counter = _open_counter() if self._on_cpu else None
        if self._counter is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count no more."""
        self._closing = True
        if self._counter is not None:
            self._thread.join()
            os.close(self._counter)
            self._counter = None

    def _look_on(self) -> None:
        pause_seconds = _OFTEN_SECONDS
        begun, num_looks = time.thread_time(), 0
        while not self._closing:
            time.sleep(pause_seconds * random.uniform(0.5, 1.5))
            with self._lock:
                slept = self._inside and self._count(looking=True)
            num_looks += 1
            usual_seconds = _OFTEN_SECONDS if slept else _SELDOM_SECONDS
            wanted_seconds = _CLOSELY_SECONDS if self._num_close else usual_seconds
            a_look_seconds = (time.thread_time() - begun) / num_looks
            pause_seconds = max(wanted_seconds, a_look_seconds / _LOOKING_SHARE)

    def _count(self, looking: bool) -> bool:
        """Add what came since the last time; whether the thread slept for some of it."""
        assert self._counter is not None
        now, ran = time.monotonic(), _runnable_seconds(self._counter)
        passed, runnable = now - self._at, min(now - self._at, ran - self._ran)
        held, slept = passed > _HELD_SECONDS, passed - runnable > _NAP_SHARE * passed
        own = held
        if looking and slept and not held:
            own = not is_waiting(sys._current_frames().get(self._thread_id))
            self._guessed += passed - runnable if own else 0.0
        if looking:
            self._num_close = _CLOSE_LOOKS if own else max(0, self._num_close - 1)
        self._seconds += passed if own else runnable
        self._at, self._ran = now, ran
        return slept


def _open_counter() -> int | None:
    """The file that counts for this thread; ``None`` where there is none, or it counts nothing."""
    try:
        counter = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    except OSError:
        return None
    if _runnable_seconds(counter) > 0:
        return counter
    os.close(counter)
    return None


def _runnable_seconds(counter: int) -> float:
    """Seconds that the thread has run, or stood in line to run (Linux, sched-stats.rst)."""
    ran, stood, *_ = os.pread(counter, 64, 0).split()
    return (int(ran) + int(stood)) / _NANOSECONDS
