"""Where did the time of a run go? Its wall time over all attempts, split without overlap.

Pure arithmetic on the one record that keeps the parts: every second is put into one of them, so
that they sum to the whole. Which part an interval belongs to is decided in ``accounts``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.coordinator.record import Record
from orchestrator.coordinator.replacing import replace

Part = Literal[
    "queued",  # waiting for the gang, where no group was lost before
    "starting",  # from the gang to the first step, where no group was lost before
    "sharding",  # the sample store is built, or found
    "useful",  # steps that are committed
    "data_stall",  # workers waited for samples
    "checkpoint",  # workers waited for state to be saved
    "recovering",  # from the end of a group that did not finish to the next one's first step
    "lost",  # steps that are taken again, or never will be
    "serving",  # the app is brought up, tried and kept
    "ending",  # workers leave in order, and what is held is given back
]

PARTS: tuple[Part, ...] = (
    "queued", "starting", "sharding", "useful", "data_stall",
    "checkpoint", "recovering", "lost", "serving", "ending",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ledger(Record):
    """Seconds of wall time by what they were spent on, over all attempts of a run.

    ``held_seconds`` are steps that are neither committed nor lost yet: the parts and they sum to
    ``wall_seconds``. ``away_seconds``, in which no driver was alive, are outside of the sum.
    ``worker_seconds`` is the time that workers were reserved, times their number.

    ``until_seconds`` is how far the clock of events has been accounted for; events of a clock that
    is behind it take no time. ``stall_seen_seconds`` and ``checkpoint_seen_seconds`` are what the
    present worker group has said of its waits so far.
    """

    queued_seconds: float = 0.0
    starting_seconds: float = 0.0
    sharding_seconds: float = 0.0
    useful_seconds: float = 0.0
    data_stall_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    recovering_seconds: float = 0.0
    lost_seconds: float = 0.0
    serving_seconds: float = 0.0
    ending_seconds: float = 0.0
    held_seconds: float = 0.0
    away_seconds: float = 0.0
    worker_seconds: float = 0.0
    until_seconds: float = 0.0
    stall_seen_seconds: float = 0.0
    checkpoint_seen_seconds: float = 0.0

    def seconds(self, part: Part) -> float:
        """What was spent on one part."""
        spent: float = getattr(self, f"{part}_seconds")
        return spent

    @property
    def wall_seconds(self) -> float:
        """Wall time in which a driver carried the run out: the sum of all parts, and of what is
        not yet known to be useful or lost."""
        return sum(self.seconds(part) for part in PARTS) + self.held_seconds

    @property
    def goodput(self) -> float | None:
        """The share of the wall time that went into committed steps, in [0, 1]; ``None`` before
        any time has passed."""
        wall_seconds = self.wall_seconds
        return self.useful_seconds / wall_seconds if wall_seconds > 0 else None

    def cost(self, price_per_hour: float) -> float:
        """What the workers cost while they were reserved, at the price of one for one hour."""
        return self.worker_seconds / 3600.0 * price_per_hour


def spend(ledger: Ledger, part: Part, seconds: float) -> Ledger:
    """Put ``seconds`` into one part."""
    field = f"{part}_seconds"
    return replace(ledger, **{field: getattr(ledger, field) + seconds})


def step(
    ledger: Ledger, seconds: float, stall_seconds: float | None, checkpoint_seconds: float | None
) -> Ledger:
    """``seconds`` in which workers were stepping.

    What the group waited for samples and for checkpoints since its first step, as far as it was
    told, is taken out of them; it may reach back into what is held, never beyond.
    """
    held_seconds = ledger.held_seconds + seconds
    stalled = _since(ledger.stall_seen_seconds, stall_seconds, held_seconds)
    saving = _since(ledger.checkpoint_seen_seconds, checkpoint_seconds, held_seconds - stalled)
    return replace(
        ledger,
        data_stall_seconds=ledger.data_stall_seconds + stalled,
        checkpoint_seconds=ledger.checkpoint_seconds + saving,
        held_seconds=max(0.0, held_seconds - stalled - saving),
        stall_seen_seconds=max(ledger.stall_seen_seconds, stall_seconds or 0.0),
        checkpoint_seen_seconds=max(ledger.checkpoint_seen_seconds, checkpoint_seconds or 0.0),
    )


def _since(seen_seconds: float, told_seconds: float | None, at_most: float) -> float:
    return 0.0 if told_seconds is None else min(at_most, max(0.0, told_seconds - seen_seconds))


def commit(ledger: Ledger, ahead_seconds: float) -> Ledger:
    """The steps taken up to ``ahead_seconds`` ago are committed: they were useful."""
    ahead = min(ledger.held_seconds, max(0.0, ahead_seconds))
    useful_seconds = ledger.useful_seconds + (ledger.held_seconds - ahead)
    return replace(ledger, useful_seconds=useful_seconds, held_seconds=ahead)


def let_go(ledger: Ledger, part: Part) -> Ledger:
    """The worker group is gone: what is held goes into ``part``, and the next group's waits are
    counted from nothing."""
    spent = spend(ledger, part, ledger.held_seconds)
    return replace(spent, held_seconds=0.0, stall_seen_seconds=0.0, checkpoint_seen_seconds=0.0)
