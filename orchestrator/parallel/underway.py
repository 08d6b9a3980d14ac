"""What came of the steps that were taken, and what follows from it?

Reads figures when they have arrived, reports them, and has the guard judge them. All workers read
the same figures in the same order, so what follows is the same on all of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from orchestrator.feed.shuffle import Ids
from orchestrator.parallel.channel import Channel, Note, StepRecord
from orchestrator.parallel.figures import Figures
from orchestrator.parallel.guard import Guard


@dataclass(frozen=True)
class Taken:
    """A step whose figures are not read yet."""

    step: int
    figures: Figures
    rate: float
    step_seconds: float
    data_seconds: float
    ids: Ids


@dataclass(frozen=True)
class Seen:
    """What the figures of one or more steps ask for: ``stop``, ``save``, ``leave`` and ``give_up``
    are the workers' wishes, ``rollback`` and ``halt`` (end the run as failed) the guard's."""

    stop: bool = False
    save: bool = False
    leave: bool = False
    give_up: bool = False
    rollback: bool = False
    halt: bool = False

    def __or__(self, other: Seen) -> Seen:
        """What either asks for."""
        return Seen(
            self.stop or other.stop,
            self.save or other.save,
            self.leave or other.leave,
            self.give_up or other.give_up,
            self.rollback or other.rollback,
            self.halt or other.halt,
        )


class Underway:
    """Steps under way, oldest first. ``num_samples`` is the global batch."""

    def __init__(self, channel: Channel, guard: Guard, num_samples: int) -> None:
        self._channel, self._guard, self._num_samples = channel, guard, num_samples
        self._steps: deque[Taken] = deque()

    def add(self, step: Taken) -> None:
        """A step was taken."""
        self._steps.append(step)

    def read(self, keep: int) -> Seen:
        """Read all but the last ``keep``; where the guard has spoken, later ones are left."""
        seen = Seen()
        while len(self._steps) > keep and not (seen.rollback or seen.halt):
            seen |= self._read(self._steps.popleft())
        return seen

    def forget(self) -> None:
        """State is taken back: what is still under way never was."""
        self._steps.clear()

    def _read(self, taken: Taken) -> Seen:
        read = taken.figures.read()
        record = StepRecord(
            step=taken.step,
            loss=read.loss,
            weight=read.weight,
            grad_norm=read.gradient_norm,
            lr=taken.rate,
            step_seconds=taken.step_seconds,
            data_seconds=taken.data_seconds,
            num_samples=self._num_samples,
            ids=taken.ids,
        )
        self._channel.report(record)
        verdict = self._guard.saw(taken.step, read.loss, read.gradient_norm, read.skipped)
        if verdict != "fine":
            self._channel.note(self._note(taken.step))
        wishes = read.wishes
        return Seen(
            wishes.stop,
            wishes.save,
            wishes.leave,
            wishes.give_up,
            rollback=verdict == "rollback",
            halt=verdict == "stop",
        )

    def _note(self, step: int) -> Note:
        bad = self._guard.streak[-1]
        count = len(self._guard.streak)
        limit = self._guard.rule.max_skips
        text = f"skipped {bad.text()}: not finite; {count} in a row, {limit} are allowed"
        return Note("skipped", step, text)
