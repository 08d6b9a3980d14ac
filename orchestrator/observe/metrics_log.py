"""What did each step measure? Records of training, as JSON Lines on storage.

``metrics/attempt-0001.jsonl`` on a file system; on object stores, which cannot append, one
object per flush, ``metrics/attempt-0001/part-00000001.jsonl``. A record is a flat JSON object
with a ``kind`` (``step``, ``eval``); those of kind ``step`` have a ``step``. Metrics inform, the
journal decides: a line that cannot be read is skipped and counted, never an error.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from types import TracebackType
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.storage import Storage

FOLDER = "metrics"
FLUSH_SECONDS = 5.0
FLUSH_RECORDS = 256
_FILE = re.compile(FOLDER + r"/attempt-(\d{4,})(?:\.jsonl|/part-(\d+)\.jsonl)")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Record = Mapping[str, Any]


class MetricsLog:
    """Appends the records of one attempt; ``storage`` is the run's folder.

    Buffered: records are written after ``FLUSH_SECONDS`` or ``FLUSH_RECORDS``, whichever comes
    first with an ``append``, and by ``flush``. Safe to use from several threads.
    """

    def __init__(self, storage: Storage, attempt: int) -> None:
        self.attempt = attempt
        self._storage = storage
        self._lines: list[bytes] = []
        self._flushed_at = time.monotonic()
        self._part = _next_part(storage, attempt)
        self._lock = threading.Lock()
        self._resumed = storage.is_local and storage.exists(self._path)

    @property
    def _path(self) -> str:
        return f"{FOLDER}/attempt-{self.attempt:04d}.jsonl"

    def append(self, record: Any) -> None:
        """Add a record: a mapping or a dataclass of JSON values. NaN and infinities are kept
        as the strings ``NaN``, ``Infinity`` and ``-Infinity``."""
        with self._lock:
            self._lines.append(_encode(record))
            age_seconds = time.monotonic() - self._flushed_at
            if len(self._lines) >= FLUSH_RECORDS or age_seconds >= FLUSH_SECONDS:
                self._flush()

    def extend(self, records: Iterable[Any]) -> None:
        """Add records and write all there are. Raises ``StorageError``; they stay buffered then,
        and must not be added again."""
        with self._lock:
            self._lines.extend(map(_encode, records))
            self._flush()

    def flush(self) -> None:
        """Write what is buffered. Raises ``StorageError``; the records stay buffered then."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write what is buffered; the log may be used again."""
        self.flush()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _flush(self) -> None:
        self._flushed_at = time.monotonic()
        if not self._lines:
            return
        data = b"".join(self._lines)
        if self._storage.is_local:
            self._append(data)
        else:
            folder = f"{FOLDER}/attempt-{self.attempt:04d}"
            self._storage.write_atomic(f"{folder}/part-{self._part:08d}.jsonl", data)
            self._part += 1
        self._lines.clear()

    def _append(self, data: bytes) -> None:
        """Append to the file of this attempt. Where storage takes a part of it, as a disk does
        that becomes full, the rest goes on exactly there the next time."""
        # An earlier writer of this attempt may have died in the middle of a line.
        whole = b"\n" + data if self._resumed else data
        before = self._size()
        try:
            self._storage.append(self._path, whole)
        except StorageError:
            taken = self._size() - before
            if taken > 0:
                self._resumed, self._lines = False, [whole[taken:]]
            raise
        self._resumed = False

    def _size(self) -> int:
        entry = self._storage.stat(self._path)
        return entry.size_bytes if entry is not None else 0


@dataclass(frozen=True)
class Metrics:
    """What was read back: records in order, each with its ``attempt``, and how many lines could
    not be read (the end of a file whose writer died)."""

    records: tuple[dict[str, Any], ...]
    num_unreadable: int = 0

    def of_kind(self, kind: str) -> tuple[dict[str, Any], ...]:
        """The records of one kind."""
        return tuple(record for record in self.records if record.get("kind") == kind)


def read_metrics(storage: Storage, attempt: int | None = None) -> Metrics:
    """The records of one attempt, or of all in order; ``storage`` is the run's folder."""
    records: list[dict[str, Any]] = []
    num_unreadable = 0
    for found, _, path in _files(storage):
        if attempt is not None and found != attempt:
            continue
        for line in storage.read_bytes(path).split(b"\n"):
            record = _decode(line)
            if record is not None:
                records.append({**record, "attempt": found})
            elif line.strip():
                num_unreadable += 1
    return Metrics(tuple(records), num_unreadable)


def last_step(storage: Storage) -> dict[str, Any] | None:
    """The newest step record of the run, reading no more than it takes; ``None`` without."""
    for attempt, _, path in reversed(_files(storage)):
        for line in reversed(storage.read_bytes(path).split(b"\n")):
            record = _decode(line)
            if record is not None and record.get("kind") == "step":
                return {**record, "attempt": attempt}
    return None


def steps(records: Iterable[Record]) -> Counter[int]:
    """How often each step was taken, as a multiset, over all attempts."""
    return Counter(int(each["step"]) for each in records if each.get("kind") == "step")


def lasting(records: Iterable[Record]) -> tuple[Record, ...]:
    """The step records that count: where a later attempt, or a rollback, went back and took a
    step again, what was done from there on before is lost work and left out. In order of step."""
    kept: list[Record] = []
    attempt = 0
    for record in records:
        if record.get("kind") != "step":
            continue
        again = bool(kept) and record["step"] <= kept[-1]["step"]
        if again or record.get("attempt", 0) != attempt:
            attempt = record.get("attempt", 0)
            kept = [each for each in kept if each["step"] < record["step"]]
        kept.append(record)
    return tuple(sorted(kept, key=lambda each: int(each["step"])))


def _files(storage: Storage) -> list[tuple[int, int, str]]:
    found = []
    for entry in storage.list(FOLDER, recursive=True):
        match = _FILE.fullmatch(entry.path)
        if match and not entry.is_dir:
            found.append((int(match[1]), int(match[2] or 0), entry.path))
    return sorted(found)


def _next_part(storage: Storage, attempt: int) -> int:
    if storage.is_local:
        return 1
    return 1 + max((part for found, part, _ in _files(storage) if found == attempt), default=0)


def _encode(record: Any) -> bytes:
    value = asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return _restored(found) if isinstance(found, dict) else None


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    if isinstance(value, dict):
        return {key: _restored(each) for key, each in value.items()}
    return [_restored(each) for each in value] if isinstance(value, list) else value
