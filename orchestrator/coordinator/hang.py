"""Which worker do the others wait for?

Pure: from what each worker said of where it is, when one of them took too long, to the one to
blame and a sentence that says why. Knows neither processes nor clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seat:
    """Where a worker's process runs."""

    pid: int
    node: str

    def text(self) -> str:
        """``pid 123 on node abc``."""
        return f"pid {self.pid} on node {self.node}"


@dataclass(frozen=True)
class Whereabouts:
    """What a worker said: since ``seconds`` at ``what``, now in ``phase``, at the line ``where``.

    ``progress`` counts the phases that it has gone through, the same ones on all workers, and
    ``micro_batches`` those of the step that are through; ``waiting``: its stack ends in an
    exchange with the others.
    """

    seat: Seat
    what: str
    phase: str
    where: str
    seconds: float
    progress: int
    micro_batches: int
    waiting: bool
    stack: str


@dataclass(frozen=True)
class Accusation:
    """The worker that the others wait for; ``seat`` is unknown where it never said it."""

    rank: int
    message: str
    seat: Seat | None = None
    stack: str = ""


def accuse(
    said: Mapping[int, Whereabouts],
    num_workers: int,
    seats: Mapping[int, Seat],
    stacks: Mapping[int, str],
) -> Accusation:
    """The worker to blame; ``said`` holds at least one, ``stacks`` what was seen from outside of
    those who said nothing.

    One that gave no answer at all is stopped, or frozen where Python cannot run, and comes first.
    Else the one that has gone through the fewest phases; of equals one whose stack does not end
    in waiting for others; then the one with the fewest micro-batches done, then the lowest rank.
    """
    silent = [rank for rank in range(num_workers) if rank not in said]
    if silent:
        return _silent(silent, said, seats, stacks)
    rank, found = min(said.items(), key=lambda item: (*_done(item[1]), item[0]))
    doing = f"in {found.phase}" if found.phase else "at its beginning"
    message = (
        f"worker {rank} ({found.seat.text()}) has been at {found.what or 'nothing'} for "
        f"{found.seconds:.0f} s, {doing}, {found.where}; {_others(found, num_workers)}"
    )
    return Accusation(rank, message, found.seat, found.stack)


def _done(found: Whereabouts) -> tuple[int, bool, int]:
    return found.progress, found.waiting, found.micro_batches


def _others(found: Whereabouts, num_workers: int) -> str:
    if num_workers == 1:
        return "it is the only one"
    return "all wait for one another" if found.waiting else "the others wait for it"


def _silent(
    silent: list[int],
    said: Mapping[int, Whereabouts],
    seats: Mapping[int, Seat],
    stacks: Mapping[int, str],
) -> Accusation:
    rank = silent[0]
    first = min(said)
    seat = seats.get(rank)
    names = ", ".join(
        f"worker {each} ({seats[each].text()})" if each in seats else f"worker {each}"
        for each in silent
    )
    message = (
        f"{names} did not say where it is when asked: the process is stopped, or frozen in code "
        f"that lets no Python run; worker {first} has waited at {said[first].what} for "
        f"{said[first].seconds:.0f} s"
    )
    if stacks.get(rank):
        return Accusation(rank, message, seat, stacks[rank])
    unseen = f"; no stack of worker {rank} could be had, this is worker {first}'s"
    return Accusation(rank, message + unseen, seat, said[first].stack)
