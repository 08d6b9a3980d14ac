"""Where do shards of remote storage lie while workers read them? In a bounded local folder.

Each shard is fetched once per machine, checked against its SHA-256 and mapped into memory
from there. The folder holds at most ``limit_bytes``: shards not needed now that were used
longest ago go first. It does not know what is in a shard.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.errors import DamagedError, DeadlineExceeded, InfeasibleError, StorageError
from orchestrator.feed.manifest import ShardInfo
from orchestrator.storage import Storage
from orchestrator.storage.failures import reason_of

_BLOCK_BYTES = 8 << 20
_FREE_SHARE = 0.8


class ShardCache:
    """A folder of shards, shared by all processes of one user on one machine.

    By default it lies in the temporary folder and may grow to 80 % of the disk space that is
    free there. ``timeout_seconds`` bounds the wait for another process that is fetching.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limit_bytes: int | None = None,
        timeout_seconds: float = 1800.0,
    ) -> None:
        self.folder = folder or Path(tempfile.gettempdir()) / f"axis-shards-{os.getuid()}"
        self._limit_bytes = limit_bytes
        self._timeout_seconds = timeout_seconds

    def map_shards(
        self, storage: Storage, shards: Sequence[ShardInfo]
    ) -> list[pa.MemoryMappedFile]:
        """Fetch what is missing and map all ``shards``, in order.

        Raises ``InfeasibleError`` where they do not fit, ``DamagedError`` where fetched bytes
        are not those that were written, ``DeadlineExceeded`` where another process fetches
        for longer than ``timeout_seconds``.
        """
        self._prepare_folder()
        # Mapped before the lock is given up: then another process may evict, but not unmap.
        with self._locked():
            self._make_room(shards)
            return [pa.memory_map(str(self._fetch(storage, shard))) for shard in shards]

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
        except OSError as exc:
            raise StorageError(f"cannot create the cache {self.folder}: {reason_of(exc)}") from exc
        if owner != os.getuid():
            raise StorageError(f"the cache {self.folder} belongs to user {owner}, not to this one")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout_seconds
        with (self.folder / "lock").open("w") as file:
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(
                        f"waited {self._timeout_seconds:.0f} s for another process that fetches "
                        f"shards into {self.folder}"
                    )
                time.sleep(0.05)
            yield

    def _make_room(self, shards: Sequence[ShardInfo]) -> None:
        needed = {_name(shard): shard.size_bytes for shard in shards}
        present = {path.name: path.stat() for path in self.folder.glob("*.arrow")}
        present_bytes = sum(status.st_size for status in present.values())
        limit = self._limit_bytes
        if limit is None:
            limit = present_bytes + int(_FREE_SHARE * shutil.disk_usage(self.folder).free)
        if sum(needed.values()) > limit:
            raise InfeasibleError(
                f"the sample store does not fit into the cache {self.folder}: it has "
                f"{sum(needed.values())} bytes, and the cache may hold {limit}. Works: a larger "
                "disk for the temporary folder (TMPDIR), or storage on a mounted folder"
            )
        missing = sum(size for name, size in needed.items() if name not in present)
        oldest = sorted((name for name in present if name not in needed), key=_by_use(present))
        for name in oldest:
            if present_bytes + missing <= limit:
                return
            (self.folder / name).unlink(missing_ok=True)
            present_bytes -= present[name].st_size

    def _fetch(self, storage: Storage, shard: ShardInfo) -> Path:
        path = self.folder / _name(shard)
        if path.is_file() and path.stat().st_size == shard.size_bytes:
            os.utime(path)
            return path
        aside = path.with_suffix(".part")
        digest = hashlib.sha256()
        try:
            with storage.open_input(shard.file) as source, aside.open("wb") as target:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    target.write(block)
        except OSError as exc:
            aside.unlink(missing_ok=True)
            raise StorageError(
                f"cannot fetch {storage.name}/{shard.file}: {reason_of(exc)}"
            ) from exc
        if digest.hexdigest() != shard.sha256:
            aside.unlink(missing_ok=True)
            raise DamagedError(
                f"{storage.name}/{shard.file} is not what was written: sha256 "
                f"{digest.hexdigest()[:16]}… instead of {shard.sha256[:16]}…"
            )
        aside.replace(path)
        return path


def _name(shard: ShardInfo) -> str:
    return f"{shard.sha256}.arrow"


def _by_use(present: dict[str, os.stat_result]) -> Any:
    return lambda name: (present[name].st_mtime_ns, name)


def _try_lock(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
