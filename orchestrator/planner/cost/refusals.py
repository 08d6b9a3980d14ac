"""Why were candidates left out? Counts by reason, with one example each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.planner.cost.case import Case


@dataclass(frozen=True, slots=True)
class Refused:
    """Why candidates were left out: how many, the reason, and one of them."""

    count: int
    reason: str
    example: str


@dataclass
class Tally:
    """Counts reasons; an example is made only for the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: Callable[[], Case]) -> None:
        """One more candidate that is left out for ``reason``."""
        self.counts[reason] += 1
        if reason not in self.examples:
            self.examples[reason] = named(example())

    def refused(self) -> tuple[Refused, ...]:
        """What was counted, the most frequent reason first."""
        return tuple(
            Refused(count, reason, self.examples[reason])
            for reason, count in self.counts.most_common()
        )


def named(case: Case) -> str:
    """A candidate in one line."""
    work = case.work
    return (
        f"{case.degrees} · micro_batch {work.micro_batch} · recompute {work.recompute} "
        f"· sharding {work.sharding}"
    )


def nothing_fits(case: Case, counts: Sequence[int], refused: Sequence[Refused]) -> str:
    """What to say where no candidate fits."""
    devices = ", ".join(str(count) for count in counts)
    head = f"nothing fits {devices} × {case.cluster.device.name}"
    if not refused:
        shape, work = case.shape, case.work
        return (
            f"{head}: no mesh divides {shape.layers} layers, {shape.heads} heads and a global "
            f"batch of {work.global_batch} over {devices} devices; works: a global_batch that is "
            f"a multiple of {devices}, or another number in hardware.devices"
        )
    lines = [f"  {part.count} × {part.reason}, such as {part.example}" for part in refused]
    return "\n".join([head, *lines, "  works: more devices, or a device with more memory"])
