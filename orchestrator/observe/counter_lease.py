"""How is something held where files cannot be locked? By a counter that keeps moving.

The holder rewrites one object with its nonce and a counter that it raises three times per
period. A taker watches for a whole period; what has not moved by then is taken over. Two
takers at once both write, wait and read again: the last writer finds its own nonce, the other
gives up. Between reading and writing there is no atomic step on such storage, so the holder
reads before each renewal and stops at once when it finds another's nonce.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.observe.lease_mark import UNREADABLE, Mark, decode_mark
from orchestrator.storage import Storage

_POLLS_PER_PERIOD = 20
_RENEWALS_PER_PERIOD = 3
_SETTLE_SHARE = 0.2
_READS = 5
_READ_PAUSE_SECONDS = 0.01


class CounterLease:
    """A lease that is held by renewing it; use ``acquire``."""

    def __init__(self, storage: Storage, path: str, mark: Mark) -> None:
        self._storage = storage
        self._path = path
        self._mark = mark
        self._renewed_at = time.monotonic()
        self._taken = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="axis-lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls, storage: Storage, path: str, tag: Mapping[str, Any], period_seconds: float
    ) -> tuple[CounterLease | None, Mapping[str, Any]]:
        """The lease, or ``None`` with the tag of whoever holds it."""
        held_by = watch(storage, path, period_seconds)
        if held_by is not None:
            return None, held_by
        mark = Mark(secrets.token_hex(8), 0, period_seconds, tag)
        storage.write_atomic(path, mark.encode())
        time.sleep(_SETTLE_SHARE * period_seconds)
        there = _read(storage, path)
        if there is None or there.nonce != mark.nonce:
            return None, there.tag if there else {}
        return cls(storage, path, mark), tag

    @property
    def lost(self) -> bool:
        """Whether another holder was seen, or no renewal got through for a whole period."""
        late = time.monotonic() - self._renewed_at > self._mark.period_seconds
        return self._taken or (late and not self._done.is_set())

    def release(self) -> None:
        """Let go, so that the next taker need not watch."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join(timeout=self._mark.period_seconds)
        there = _read(self._storage, self._path)
        if there is not None and there.nonce == self._mark.nonce:
            self._storage.delete(self._path)

    def _renew(self) -> None:
        while not self._done.wait(self._mark.period_seconds / _RENEWALS_PER_PERIOD):
            try:
                there = _read(self._storage, self._path)
                if self.lost or there is None or there.nonce != self._mark.nonce:
                    self._taken = True
                    return
                self._storage.write_atomic(self._path, there.raised().encode())
            except StorageError:
                continue  # ``lost`` turns true by itself when this lasts
            self._renewed_at = time.monotonic()


def watch(storage: Storage, path: str, period_seconds: float) -> Mapping[str, Any] | None:
    """The tag of whoever renews ``path``; ``None`` when nobody does.

    Watches for the longer of ``period_seconds`` and the period the holder promised, and
    returns as soon as the mark moves. With 0 the mark is believed without watching.
    """
    first = _read(storage, path)
    if first is None:
        return None
    if period_seconds == 0:
        return first.tag
    period = max(period_seconds, first.period_seconds)
    deadline = time.monotonic() + period
    while time.monotonic() < deadline:
        time.sleep(period / _POLLS_PER_PERIOD)
        there = _read(storage, path)
        if there is None:
            return None
        if there.has_moved(first):
            return there.tag
    return None


def _read(storage: Storage, path: str) -> Mark | None:
    """The mark that is there. Where puts are not atomic it may be half written for an instant;
    one that stays unreadable belongs to nobody, and like any other is watched for a period."""
    for _ in range(_READS):
        if not storage.exists(path):
            return None
        try:
            return decode_mark(storage.read_bytes(path))
        except StorageError:
            if storage.exists(path):
                raise
        except (ValueError, KeyError, TypeError):
            time.sleep(_READ_PAUSE_SECONDS)
    return UNREADABLE
