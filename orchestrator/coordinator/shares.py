"""What did the workers of a group spend their steps on? From what each said of its own work.

Pure. All workers end a step together: who has nothing to do waits, for the exchange itself, or for
a slower worker. The one that waits least waits for the exchange alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.coordinator.stretches import Work

_MOST_OPEN = 64


@dataclass(frozen=True, slots=True)
class Shares:
    """Seconds of ``num_steps`` steps, as a mean over workers: ``exchange_seconds`` is what even
    the busiest worker of a step waited, ``waiting_seconds`` what the others waited beyond it."""

    num_steps: int = 0
    step_seconds: float = 0.0
    exchange_seconds: float = 0.0
    waiting_seconds: float = 0.0
    data_seconds: float = 0.0

    def plus(self, other: Shares) -> Shares:
        """Both together."""
        return Shares(
            self.num_steps + other.num_steps,
            self.step_seconds + other.step_seconds,
            self.exchange_seconds + other.exchange_seconds,
            self.waiting_seconds + other.waiting_seconds,
            self.data_seconds + other.data_seconds,
        )


def shares_of(by_rank: Mapping[int, Work]) -> Shares | None:
    """The shares of one step that all workers told of; ``None`` where one cannot tell its work."""
    waits, data = [], []
    for work in by_rank.values():
        if work.busy_seconds is None:
            return None
        data.append(work.data_seconds)
        waits.append(max(0.0, work.step_seconds - work.data_seconds - work.busy_seconds))
    count, least = len(waits), min(waits)
    whole = sum(work.step_seconds for work in by_rank.values()) / count
    return Shares(1, whole, least, sum(waits) / count - least, sum(data) / count)


@dataclass(frozen=True)
class Counted:
    """Steps that some workers have told of, and what the finished ones came to, a value."""

    num_workers: int
    open_steps: Mapping[int, Mapping[int, Work]] = field(default_factory=dict)
    shares: Shares = Shares()

    def with_work(self, work: Work) -> Counted:
        """The same after one worker told of one step."""
        told = {**self.open_steps.get(work.step, {}), work.rank: work}
        steps = {step: by_rank for step, by_rank in self.open_steps.items() if step != work.step}
        if len(told) < self.num_workers:
            kept = sorted({**steps, work.step: told}.items())[-_MOST_OPEN:]
            return replace(self, open_steps=dict(kept))
        found = shares_of(told)
        shares = self.shares if found is None else self.shares.plus(found)
        return replace(self, open_steps=steps, shares=shares)
