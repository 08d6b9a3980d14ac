"""When is the next checkpoint due, by what one costs and how often something fails?

Keeps what the run has measured of its own checkpoints and asks ``plan.cadence`` for the interval
that costs least. Only the first worker's clock is asked, and the others are told (``figures``).
Does not know how a checkpoint is written.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from orchestrator.plan.cadence import FailureHistory, daly_interval, goodput, young_interval

ASSUMED_BYTES_PER_SECOND = 100e6
"""What one worker is taken to write in a second until a checkpoint has been measured: a modest
disk, with checksums taken on the way."""

_LEAST_COST_SECONDS = 1e-3
_NUM_MEDIAN = 5
_NUM_STEPS = 64
_FIRST_SECONDS = 10.0
_FIRST_COSTS = 20.0
_TOLD_CHANGE = 0.1


@dataclass(frozen=True)
class Costs:
    """What a checkpoint costs: ``seconds`` of training, and ``write_seconds`` until it exists.

    ``num_measured`` 0: estimated from ``state_bytes`` of this worker.
    """

    seconds: float
    write_seconds: float
    num_measured: int
    state_bytes: int

    def text(self) -> str:
        """``C = 0.8 s (median of the last 3)``, with what it rests on."""
        if self.num_measured:
            return f"C = {span(self.seconds)} ({_measured(self.num_measured)})"
        rate = ASSUMED_BYTES_PER_SECOND / 1e6
        return (
            f"C = {span(self.seconds)} (estimated: {self.state_bytes / 1e6:,.1f} MB a worker "
            f"at an assumed {rate:.0f} MB/s)"
        )


@dataclass(frozen=True)
class Interval:
    """Seconds of work between two checkpoints, and why."""

    seconds: float
    costs: Costs
    history: FailureHistory
    prior_seconds: float

    @property
    def mtbf_seconds(self) -> float:
        """Mean time between failures, by plan and journal."""
        return self.history.mean_seconds_between(self.prior_seconds)

    @property
    def best_seconds(self) -> float:
        """Daly's interval."""
        return daly_interval(self.mtbf_seconds, self.costs.seconds)

    @property
    def tax(self) -> float:
        """The share of time that checkpoints, work done again and restarts cost."""
        restart = self.history.restart_seconds or 0.0
        return 1 - goodput(self.mtbf_seconds, self.seconds, self.costs.seconds, restart)

    def is_near(self, other: Interval) -> bool:
        """Whether ``other`` is not worth telling after this one: as well founded, and no longer
        or shorter by more than a tenth."""
        as_founded = bool(self.costs.num_measured) == bool(other.costs.num_measured)
        return as_founded and abs(other.seconds - self.seconds) <= _TOLD_CHANGE * self.seconds

    def sentence(self) -> str:
        """The interval with its arithmetic, for a log."""
        return f"checkpoints {self._every()}: {self._why()}; {self._tax()}"

    def _every(self) -> str:
        if self.costs.num_measured:
            return f"every {span(self.seconds)}"
        return f"every {span(self.best_seconds)}, the first after {span(self.seconds)} to measure"

    def _why(self) -> str:
        failures = self.history.num_failures
        times = f"{failures} failure" if failures == 1 else f"{failures} failures"
        mtbf = (
            f"M = {span(self.mtbf_seconds)} (the plan's {span(self.prior_seconds)} as one "
            f"observation, {times} in {span(self.history.elapsed_seconds)})"
        )
        young = span(young_interval(self.mtbf_seconds, self.costs.seconds))
        text = f"Daly with {self.costs.text()}, {mtbf}; Young would say {young}"
        if self.costs.num_measured and self.seconds > self.best_seconds:
            write = span(self.costs.write_seconds)
            text += f"; not below the {write} that writing one takes"
        return text

    def _tax(self) -> str:
        restart = self.history.restart_seconds
        how = f"restart {span(restart)}" if restart is not None else "restart not measured yet"
        return f"{how} → failure tax {self.tax:.1%}"


def choose_interval(costs: Costs, prior_seconds: float, history: FailureHistory) -> Interval:
    """Daly's interval; not below the time that writing takes, since one is written at a time.

    The first one, whose cost is only estimated, comes early enough to measure: after ten
    seconds or twenty times the estimate, whichever is later, but never later than Daly says.
    """
    best = daly_interval(history.mean_seconds_between(prior_seconds), costs.seconds)
    if costs.num_measured:
        seconds = max(best, costs.write_seconds)
    else:
        seconds = min(best, max(_FIRST_SECONDS, _FIRST_COSTS * costs.seconds))
    return Interval(seconds, costs, history, prior_seconds)


class TimedCadence:
    """``every: auto`` on the first worker. ``state_bytes`` is what one worker would write."""

    def __init__(
        self,
        prior_seconds: float,
        history: FailureHistory,
        state_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prior_seconds, self._history = prior_seconds, history
        self._state_bytes = state_bytes
        self._clock = clock
        self._began = self._last = clock()
        self._costs: deque[tuple[float, float]] = deque(maxlen=_NUM_MEDIAN)
        self._steps: deque[float] = deque(maxlen=_NUM_STEPS)
        self._under_way: float | None = None
        self._told: Interval | None = None

    def due(self) -> bool:
        """Whether it is time; never while one is being written."""
        if self._under_way is not None:
            return False
        return self._clock() - self._last >= self.interval().seconds

    def step_taken(self, seconds: float) -> None:
        """A step took so long: what it took longer while writing was under way is a cost."""
        if self._under_way is None:
            self._steps.append(seconds)
        elif self._steps:
            self._under_way += seconds - median(self._steps)

    def saved(self, stall_seconds: float) -> None:
        """The loop waited so long; the checkpoint may still be under way."""
        self._under_way = stall_seconds
        self._last = self._clock()

    def written(self, write_seconds: float) -> None:
        """The checkpoint exists, ``write_seconds`` after it was begun."""
        if self._under_way is not None:
            self._costs.append((self._under_way, write_seconds))
        self._under_way = None

    def not_written(self) -> None:
        """The checkpoint under way came to nothing; what it cost is no measure."""
        self._under_way = None

    def restart(self) -> None:
        """State was taken back to a checkpoint: from here on there is work to save again."""
        self._last = self._clock()

    def interval(self) -> Interval:
        """The interval as of now."""
        elapsed = self._history.elapsed_seconds + self._clock() - self._began
        history = FailureHistory(self._history.num_failures, elapsed, self._history.restart_seconds)
        return choose_interval(self._known(), self._prior_seconds, history)

    def news(self) -> Interval | None:
        """The interval, if it is another by more than a tenth than when it was last told."""
        found, told = self.interval(), self._told
        if told is not None and told.is_near(found):
            return None
        self._told = found
        return found

    def _known(self) -> Costs:
        count, size = len(self._costs), self._state_bytes
        if count:
            cost = max(_LEAST_COST_SECONDS, median(cost for cost, _ in self._costs))
            return Costs(cost, median(write for _, write in self._costs), count, size)
        estimate = max(_LEAST_COST_SECONDS, size / ASSUMED_BYTES_PER_SECOND)
        return Costs(estimate, estimate, 0, size)


def span(seconds: float) -> str:
    """``0.8 s``, ``41 s``, ``12.2 min``, ``24 h``."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _measured(count: int) -> str:
    return "measured" if count == 1 else f"median of the last {count}"
