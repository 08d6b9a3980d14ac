"""What is known of a worker group from what its workers say, besides the steps themselves?

Who is where, when each node was last heard, who is slow, and how much time went into waiting. One
object for each attempt. Decides nothing by itself: who is slow and
whose silence matters is worked out in ``coordinator``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestrator.coordinator.hang import Seat
from orchestrator.coordinator.shares import Counted, Shares
from orchestrator.coordinator.slow_links import Links, RoundTrip, hear
from orchestrator.coordinator.stragglers import Lookout, Slow, Work, look, watch
from orchestrator.plan.mesh import Mesh
from orchestrator.runtime.memory import KillCount

_REMEMBERED_STEPS = 1024
_UNTYPICAL_STEPS = 2
"""The first steps allocate and connect; what they took says nothing of the others."""


@dataclass
class Ears:
    """Everything heard in one attempt. Times are of one monotonic clock."""

    attempt: int = 0
    mesh: Mesh | None = None
    seats: dict[int, Seat] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    """By node: its workers, or the node itself when it was asked."""
    kill_counts: dict[int, KillCount] = field(default_factory=dict)
    """By rank: how often the kernel had killed for memory when the worker began."""
    stall_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    """What the first worker waited for samples, and between steps, since the first of them."""
    _lookout: Lookout | None = None
    _links: Links = field(default_factory=Links)
    _counted: Counted | None = None
    _first_step: int | None = None
    _finished_at: dict[int, float] = field(default_factory=dict)

    def hear(self, rank: int, records: Sequence[Mapping[str, Any]], now: float) -> tuple[Slow, ...]:
        """Take what a worker sends; returns who is to be named as slow for it."""
        for record in records:
            if record["kind"] == "worker":
                self._sit(record, now)
            elif record["kind"] == "step":
                self._stepped(record)
        seat = self.seats.get(rank)
        if seat is not None:
            self.heard_at[seat.node] = now
        return (*self._slow_workers(records, now), *self._slow_link(records, now))

    @property
    def is_complete(self) -> bool:
        """Whether every rank has said where it is."""
        return self.mesh is not None and len(self.seats) == self.mesh.size

    def nodes_by_rank(self) -> dict[int, str]:
        """The node of each rank that is known."""
        return {rank: seat.node for rank, seat in self.seats.items()}

    def silent_seconds(self, now: float) -> dict[str, float]:
        """How long each node of the group has said nothing; empty until all ranks are known."""
        if not self.is_complete:
            return {}
        return {node: now - at for node, at in self.heard_at.items()}

    def ranks_on(self, node: str) -> list[int]:
        """The ranks that run there."""
        return sorted(rank for rank, seat in self.seats.items() if seat.node == node)

    def ahead_seconds(self, step: int) -> float:
        """How long before the newest step this one was finished; 0 where that is unknown."""
        if step not in self._finished_at:
            return 0.0
        return max(self._finished_at.values()) - self._finished_at[step]

    def _sit(self, record: Mapping[str, Any], now: float) -> None:
        node = str(record["node"])
        self.seats[int(record["rank"])] = Seat(int(record["pid"]), node)
        self.heard_at[node] = now
        if "kill_count" in record:
            self.kill_counts[int(record["rank"])] = KillCount(**record["kill_count"])
        if self.is_complete and self.mesh is not None:
            nodes = [self.seats[rank].node for rank in range(self.mesh.size)]
            self._lookout = watch(nodes, self.mesh)
            self._counted = Counted(self.mesh.size)

    def _stepped(self, record: Mapping[str, Any]) -> None:
        """Between two steps lie evaluations and what is waited for of checkpoints."""
        step, at = int(record["step"]), float(record["at_seconds"])
        before = self._finished_at.get(step - 1)
        if before is not None:
            pause = at - before - float(record["step_seconds"])
            self.checkpoint_seconds += max(0.0, pause)
            self.stall_seconds += float(record["data_seconds"])
        self._finished_at[step] = at
        self._finished_at.pop(step - _REMEMBERED_STEPS, None)

    def _slow_workers(self, records: Sequence[Mapping[str, Any]], now: float) -> tuple[Slow, ...]:
        works = [_work(record) for record in records if record["kind"] == "work"]
        if self._lookout is None or not works:
            return ()
        self._lookout, slow = look(self._lookout, works, now)
        for work in works:
            if self._first_step is None:
                self._first_step = work.step
            if self._counted is not None and work.step >= self._first_step + _UNTYPICAL_STEPS:
                self._counted = self._counted.with_work(work)
        return slow

    def take_shares(self) -> dict[str, Any] | None:
        """What the steps came to that all workers have told of since the last time, as a record
        for the run's metrics; nothing where there were none."""
        if self._counted is None or not self._counted.shares.num_steps:
            return None
        shares, self._counted = self._counted.shares, replace(self._counted, shares=Shares())
        return {"kind": "shares", **asdict(shares)}

    def _slow_link(self, records: Sequence[Mapping[str, Any]], now: float) -> tuple[Slow, ...]:
        trips = [_trip(record) for record in records if record["kind"] == "round-trip"]
        if not trips:
            return ()
        self._links, slow = hear(self._links, trips, now)
        return slow


def is_for_ears(record: Mapping[str, Any]) -> bool:
    """Whether a record is of the moment: not worth keeping in the run's metrics."""
    return record["kind"] in ("work", "round-trip")


def _work(record: Mapping[str, Any]) -> Work:
    return Work(
        step=int(record["step"]),
        rank=int(record["rank"]),
        step_seconds=float(record["step_seconds"]),
        busy_seconds=record["busy_seconds"],
        data_seconds=float(record["data_seconds"]),
        guessed_seconds=float(record["guessed_seconds"]),
    )


def _trip(record: Mapping[str, Any]) -> RoundTrip:
    return RoundTrip(str(record["node"]), float(record["seconds"]), int(record["num_bytes"]))
