"""Who may carry this run out? One driver at a time, and a dead one never stands in the way.

The holder keeps raising a counter in the lease's file; a taker watches it for a whole period and
takes over what did not move, be its holder dead, frozen or cut off. On a file system the file is
locked besides, so that a dead holder is followed at once. Clocks are never compared: only "has it
changed while I was looking".

Does not fence what an earlier holder still tries to do: attempt numbers do (``journal``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol

from orchestrator.errors import Fenced, RunHeld
from orchestrator.observe.counter_lease import CounterLease, watch
from orchestrator.observe.holder import Holder
from orchestrator.observe.lease_file import LockedFile, watch_file
from orchestrator.observe.stop_request import clear_stop, request_stop, stop_requested
from orchestrator.storage import Storage

__all__ = ["Holder", "RunLease", "clear_stop", "peek", "request_stop", "stop_requested"]

LEASE_FILE = "lease.json"
LEASE_PERIOD_SECONDS = 10.0
"""Whoever gives no sign of life for so long is taken over, if somebody wants to."""


class Hold(Protocol):
    """Something that is held until it is let go, or lost."""

    @property
    def lost(self) -> bool:
        """Whether somebody else may hold it by now."""

    def release(self) -> None:
        """Let go; doing it twice does nothing."""


class RunLease:
    """The right to carry a run out; a context manager.

    ``check()`` belongs into the driver's loop: it raises ``Fenced`` once the lease is lost.
    """

    def __init__(self, hold: Hold, holder: Holder, name: str, storage: Storage) -> None:
        self._hold = hold
        self._storage = storage
        self.holder = holder
        self.name = name

    @classmethod
    def acquire(
        cls,
        storage: Storage,
        name: str,
        holder: Holder | None = None,
        period_seconds: float = LEASE_PERIOD_SECONDS,
    ) -> RunLease:
        """Take the lease of the run whose folder is ``storage``.

        Returns at once where nobody holds it: on a file system also when the holder died. One
        that is frozen, and on object stores one that died, is watched for a whole period and then
        taken over. Raises ``RunHeld`` saying who holds it since when, as soon as they move.
        """
        mine = holder or Holder.here()
        hold: Hold | None
        if storage.is_local:
            path = storage.local_path(LEASE_FILE)
            hold, other = LockedFile.acquire(path, asdict(mine), period_seconds)
        else:
            hold, other = CounterLease.acquire(storage, LEASE_FILE, asdict(mine), period_seconds)
        if hold is None:
            raise RunHeld(_held(storage, name, _holder(other)))
        return cls(hold, mine, name, storage)

    @property
    def lost(self) -> bool:
        """Whether somebody else may carry the run out by now."""
        return self._hold.lost

    def check(self) -> None:
        """Raise ``Fenced`` if the lease is lost."""
        if not self.lost:
            return
        other = peek(self._storage)
        if other is None and self._storage.is_local and not self._storage.exists(LEASE_FILE):
            raise Fenced(f"the lease of {self.name} is gone: its folder was moved or deleted")
        by = other.render() if other and other != self.holder else "somebody else"
        raise Fenced(f"the lease of {self.name} was taken over by {by}")

    def release(self) -> None:
        """Let go; doing it twice does nothing."""
        self._hold.release()

    def __enter__(self) -> RunLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def peek(storage: Storage, period_seconds: float = 0.0) -> Holder | None:
    """Who holds the run now, without taking it; ``None`` when nobody does.

    A holder that is frozen, and on object stores one that died without a word, looks alive unless
    it is watched for ``period_seconds``: then it counts as nobody. 0 believes what is there.
    """
    if storage.is_local:
        tag = watch_file(storage.local_path(LEASE_FILE), period_seconds)
    else:
        tag = watch(storage, LEASE_FILE, period_seconds)
    return _holder(tag) if tag is not None else None


def _holder(tag: Mapping[str, Any]) -> Holder:
    return Holder(
        host=str(tag.get("host", "an unknown host")),
        pid=int(tag.get("pid", 0)),
        user=str(tag.get("user", "somebody")),
        since_seconds=float(tag.get("since_seconds", 0.0)),
        command=str(tag.get("command", "")),
    )


def _held(storage: Storage, name: str, holder: Holder) -> str:
    return f"the run {name} is held by {holder.render()}: `axis stop {storage.name}` ends it"
