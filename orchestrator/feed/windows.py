"""Which stretches of the order of samples are passed over?

A window is a stretch of global positions that no step uses: after a rollback, the samples on
which the loss was no longer a finite number. What is left is numbered without gaps, so that a
step is still the next B samples. Knows nothing of steps that fail, nor of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from orchestrator.feed.shuffle import Ids

Window = tuple[int, int]
"""Global positions ``[start, stop)``."""


@dataclass(frozen=True)
class Windows:
    """Windows in order, none empty and no two overlapping; raises ``ValueError`` otherwise."""

    passed: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        last = 0
        for start, stop in self.passed:
            if not last <= start < stop:
                raise ValueError(f"{list(self.passed)} are not windows in order")
            last = stop

    @classmethod
    def of(cls, windows: Iterable[Iterable[int]]) -> Windows:
        """Windows from pairs, as JSON has them."""
        pairs = [tuple(int(edge) for edge in window) for window in windows]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"{pairs} are not windows: each is a start and a stop")
        return cls(tuple((pair[0], pair[1]) for pair in pairs))

    @property
    def num_passed(self) -> int:
        """Positions in all windows together."""
        return sum(stop - start for start, stop in self.passed)

    def passing_over(self, first: int, last: int) -> Windows:
        """These windows, and the samples of the turns ``[first, last)`` as well.

        As many new windows as the turns have stretches: one, unless a window lies among them.
        """
        positions = self.positions(np.arange(first, last, dtype=np.int64))
        gaps = np.flatnonzero(np.diff(positions) > 1) + 1
        stretches = [part for part in np.split(positions, gaps) if part.size]
        found = [(int(part[0]), int(part[-1]) + 1) for part in stretches]
        return Windows(tuple(sorted((*self.passed, *found))))

    def positions(self, turns: Ids) -> Ids:
        """The global position of the i-th sample that is used, for each ``i`` in ``turns``.

        Without windows it is ``i`` itself. Strictly increasing in ``i``; its values are all
        positions outside of the windows.
        """
        if not self.passed:
            return turns
        starts, stops = np.array(self.passed, dtype=np.int64).T
        lengths = np.cumsum(stops - starts)
        # How many samples are used before each window: the first turn that comes after it.
        firsts = starts - (lengths - (stops - starts))
        before = np.searchsorted(firsts, turns, side="right")
        return turns + np.concatenate(([0], lengths))[before]

    def position(self, turn: int) -> int:
        """``positions`` of one turn."""
        return int(self.positions(np.array([turn], dtype=np.int64))[0])


NO_WINDOWS = Windows()
