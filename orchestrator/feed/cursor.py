"""Which sample is number *i* of the run, and who takes it?

A sample's turn is a pure function of (seed, number of samples, hold-out, position). Ranks
and world sizes decide only who computes it: see ``share``. This module does not know where
samples are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.feed.shuffle import Ids, Permutation


@dataclass(frozen=True)
class Order:
    """The order of samples of a run: train samples epoch after epoch, and the held-out ones.

    ``num_samples`` is N, ``holdout`` the share kept out of training, in [0, 1). Held-out and
    train samples are told apart by one shuffle of all samples; each epoch shuffles the train
    samples anew. Raises ``ValueError`` for values outside of their range.
    """

    seed: int
    num_samples: int
    holdout: float

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"an order needs at least 1 sample, not {self.num_samples}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"the held-out share must be in [0, 1), not {self.holdout}")

    @property
    def num_holdout(self) -> int:
        """⌊N · holdout⌋, but at least 1 if any is asked for and 2 exist; never all."""
        # As a decimal fraction: 0.29 · 100 is 29, which binary floating point makes 28.
        count = int(self.num_samples * Fraction(repr(float(self.holdout))))
        least = 1 if self.holdout > 0 and self.num_samples >= 2 else 0
        return max(least, min(count, self.num_samples - 1))

    @property
    def num_train(self) -> int:
        """Samples of one epoch."""
        return self.num_samples - self.num_holdout

    def train_ids(self, start: int, stop: int) -> Ids:
        """Sample ids at the global positions ``[start, stop)``, any number of epochs long."""
        return self.ids_at(np.arange(start, stop, dtype=np.int64))

    def ids_at(self, positions: npt.NDArray[Any]) -> Ids:
        """Sample ids at global positions (``int64``, ≥ 0, any one-dimensional selection).

        Position ``g`` is position ``g mod num_train`` of epoch ``g // num_train``.
        """
        if positions.size and int(positions.min()) < 0:
            raise ValueError(f"positions begin at 0, not {int(positions.min())}")
        epochs, within = np.divmod(positions.astype(np.int64), self.num_train)
        turns = np.empty_like(within)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            turns[chosen] = self._epoch(int(epoch))(within[chosen])
        return self._split(turns + self.num_holdout)

    def holdout_ids(self, limit: int | None = None) -> Ids:
        """The first ``limit`` held-out sample ids (all by default), sorted; always the same."""
        count = self.num_holdout if limit is None else min(limit, self.num_holdout)
        return np.sort(self._split(np.arange(count, dtype=np.int64)))

    def _epoch(self, epoch: int) -> Permutation:
        return _permutation(self.num_train, f"epoch:{self.seed}:{epoch}")

    def _split(self, turns: Ids) -> Ids:
        if self.num_holdout == 0:
            return turns
        return _permutation(self.num_samples, f"split:{self.seed}")(turns)


@lru_cache(maxsize=16)
def _permutation(size: int, label: str) -> Permutation:
    return Permutation(size, label.encode())


@dataclass(frozen=True)
class Cursor:
    """How far a run has read: ``position`` samples into ``epoch``, both from 0."""

    seed: int
    epoch: int
    position: int
    num_train: int

    def __post_init__(self) -> None:
        if self.epoch < 0 or not 0 <= self.position < self.num_train:
            raise ValueError(
                f"epoch {self.epoch}, position {self.position} is not a place in epochs of "
                f"{self.num_train} samples"
            )

    @classmethod
    def from_consumed(cls, seed: int, consumed: int, num_train: int) -> Cursor:
        """The place after ``consumed`` train samples."""
        if consumed < 0 or num_train < 1:
            raise ValueError(f"{consumed} samples consumed of epochs of {num_train}")
        epoch, position = divmod(consumed, num_train)
        return cls(seed, epoch, position, num_train)

    @property
    def consumed(self) -> int:
        """Train samples consumed since the run began; also the next global position."""
        return self.epoch * self.num_train + self.position


def share(step: int, global_batch: int, batch_rank: int, batch_degree: int) -> tuple[int, int]:
    """Turns ``[start, stop)`` of one batch rank in one step (steps from 0).

    Step s consumes the turns ``[s·B, (s+1)·B)``; rank r of D takes the r-th of D contiguous
    slices of ``b = B/D`` samples, so that every D cuts the same sequence. A turn is a global
    position unless windows are passed over (``windows.Windows.positions``). Raises
    ``ValueError`` where D does not divide B.
    """
    if global_batch % batch_degree:
        raise ValueError(
            f"global_batch {global_batch} is not divisible by {batch_degree} batch ranks: "
            f"{global_batch} mod {batch_degree} = {global_batch % batch_degree}"
        )
    if not 0 <= batch_rank < batch_degree:
        raise ValueError(f"batch rank {batch_rank} is not in [0, {batch_degree})")
    per_rank = global_batch // batch_degree
    start = step * global_batch + batch_rank * per_rank
    return start, start + per_rank
