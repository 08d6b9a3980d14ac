"""Is a checkpoint due by the clock, and what has the last one cost?

Stands between the worker and its cadence: with a fixed number of steps, and on every worker but
the first, there is none, and nothing is due by the clock, but for one that could not be written.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.parallel.cadence import TimedCadence
from orchestrator.parallel.channel import Channel, Note
from orchestrator.parallel.manifest import CheckpointManifest

RETRY_SECONDS = 15.0
"""A checkpoint that could not be written is taken again after so long."""


class Pace:
    """One worker's view of the clock that says when ``every: auto`` is due."""

    def __init__(
        self,
        channel: Channel,
        cadence: TimedCadence | None,
        is_first: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel, self._cadence = channel, cadence
        self._is_first, self._clock = is_first, clock
        self._again_at: float | None = None
        self._heard: CheckpointManifest | None = None

    def due(self) -> bool:
        """Whether this worker wants a checkpoint after the step that begins."""
        if self._again_at is not None:
            return self._clock() >= self._again_at
        return self._cadence is not None and self._cadence.due()

    def not_written(self) -> None:
        """A checkpoint came to nothing: the next is due soon, whatever the plan says."""
        if self._is_first:
            self._again_at = self._clock() + RETRY_SECONDS
        if self._cadence is not None:
            self._cadence.not_written()

    def step_taken(self, step: int, seconds: float, newest: CheckpointManifest | None) -> None:
        """A step took so long; ``newest`` is the newest checkpoint that exists by now."""
        if self._cadence is not None:
            self._cadence.step_taken(seconds)
            self.hear(step, newest)

    def saved(self, step: int, stall_seconds: float, newest: CheckpointManifest | None) -> None:
        """Training waited so long for a checkpoint, which may exist already."""
        self._again_at = None
        if self._cadence is not None:
            self._cadence.saved(stall_seconds)
            self.hear(step, newest)

    def rolled_back(self) -> None:
        """State is that of the last checkpoint again."""
        if self._cadence is not None:
            self._cadence.restart()

    def tell(self, step: int) -> None:
        """Tell the interval and its arithmetic, if it is new."""
        news = self._cadence.news() if self._cadence is not None else None
        if news is not None:
            figures = {
                "seconds": news.seconds,
                "cost_seconds": news.costs.seconds,
                "write_seconds": news.costs.write_seconds,
                "mtbf_seconds": news.mtbf_seconds,
                "failure_tax": news.tax,
            }
            self._channel.note(Note("cadence", step, news.sentence(), figures))

    def hear(self, step: int, newest: CheckpointManifest | None) -> None:
        """``newest`` is the newest checkpoint that exists by now; to be called before another one
        is begun."""
        if newest is None or newest is self._heard or self._cadence is None:
            return
        self._heard = newest
        self._cadence.written(newest.seconds)
        self.tell(step)
