"""What belongs to a sample store, and is it all there?

The manifest is the last file written: shards that no manifest names do not exist. It carries
its own checksum and those of all shards. It does not know how to read samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import DamagedError, StorageError
from orchestrator.feed.columns import Column
from orchestrator.storage import Storage
from orchestrator.storage.failures import reason_of

FORMAT = 1
"""Version of the layout of a store: shards, columns and this manifest."""
MANIFEST_FILE = "store.json"
_READ_BYTES = 8 << 20

Verify = Literal["size", "sha256"]
"""How closely shards are looked at: by size alone, or by reading all bytes."""


@dataclass(frozen=True)
class ShardInfo:
    """One shard file, relative to the store's folder, as it was written."""

    file: str
    num_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class BadFile:
    """A source file that could not be read; none of its samples is in the store."""

    path: str
    reason: str


@dataclass(frozen=True)
class StoreManifest:
    """All that is known of a store. Sample *i* is row *i* of the shards in their order.

    ``key`` names what the store was made from (see ``keys.store_key``), ``plan_hash`` and
    ``code_hash`` the plan and the Job's source that produced it. ``source`` describes the
    source for people; ``bad_files`` are those left out.
    """

    key: str
    columns: tuple[Column, ...]
    shards: tuple[ShardInfo, ...]
    plan_hash: str
    code_hash: str
    source: Mapping[str, Any] = field(default_factory=dict)
    bad_files: tuple[BadFile, ...] = ()
    num_rows_read: int = 0
    num_bytes_read: int = 0
    format: int = FORMAT

    @property
    def num_samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.num_rows for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """Bytes of all shard files."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def content_hash(self) -> str:
        """SHA-256 over the columns and the shards' checksums, in order."""
        content = [
            [column.to_json() for column in self.columns],
            [shard.sha256 for shard in self.shards],
        ]
        return hashlib.sha256(_canonical(content)).hexdigest()

    def to_bytes(self) -> bytes:
        """The manifest as indented JSON with its own checksum."""
        body = {
            "format": self.format,
            "key": self.key,
            "content_hash": self.content_hash,
            "num_samples": self.num_samples,
            "columns": [column.to_json() for column in self.columns],
            "shards": [asdict(shard) for shard in self.shards],
            "plan_hash": self.plan_hash,
            "code_hash": self.code_hash,
            "source": dict(self.source),
            "num_rows_read": self.num_rows_read,
            "num_bytes_read": self.num_bytes_read,
            "bad_files": [asdict(bad) for bad in self.bad_files],
        }
        body["sha256"] = hashlib.sha256(_canonical(body)).hexdigest()
        return json.dumps(body, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> StoreManifest:
        """Inverse of ``to_bytes``; ``place`` is named in errors.

        Raises ``DamagedError`` for what is not a whole manifest of a known format.
        """
        body = _checked_body(data, place)
        try:
            return cls(
                key=body["key"],
                columns=tuple(Column.from_json(column) for column in body["columns"]),
                shards=tuple(ShardInfo(**shard) for shard in body["shards"]),
                plan_hash=body["plan_hash"],
                code_hash=body["code_hash"],
                source=body["source"],
                bad_files=tuple(BadFile(**bad) for bad in body["bad_files"]),
                num_rows_read=body["num_rows_read"],
                num_bytes_read=body["num_bytes_read"],
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise DamagedError(f"{place} is not a manifest of format {FORMAT}: {exc!r}") from exc

    def with_bad_files(self, more: Iterable[BadFile]) -> StoreManifest:
        """The same store with further files named as left out."""
        return replace(self, bad_files=(*self.bad_files, *more))


def read_manifest(storage: Storage) -> StoreManifest:
    """The manifest of the store in ``storage``.

    Raises ``DamagedError`` where there is none (the store was never finished) or it is not
    what was written, ``StorageError`` where it cannot be read.
    """
    if not storage.exists(MANIFEST_FILE):
        raise DamagedError(
            f"{storage.name} holds no finished sample store: {MANIFEST_FILE}, which is written "
            "last, is missing"
        )
    return StoreManifest.from_bytes(
        storage.read_bytes(MANIFEST_FILE), f"{storage.name}/{MANIFEST_FILE}"
    )


def verify_shards(storage: Storage, shards: Sequence[ShardInfo], verify: Verify = "size") -> None:
    """Compare shard files with what the manifest says of them.

    Raises ``DamagedError`` naming the first that is missing, of another size or, with
    ``verify="sha256"``, of other bytes.
    """
    present = {entry.path: entry.size_bytes for entry in storage.list() if not entry.is_dir}
    for shard in shards:
        place = f"{storage.name}/{shard.file}"
        if shard.file not in present:
            raise DamagedError(f"{place} is missing: the manifest names it")
        if present[shard.file] != shard.size_bytes:
            raise DamagedError(
                f"{place} has {present[shard.file]} bytes, but {shard.size_bytes} were written"
            )
        if verify == "sha256" and (found := file_sha256(storage, shard.file)) != shard.sha256:
            raise DamagedError(
                f"{place} is not what was written: sha256 {found[:16]}… instead of "
                f"{shard.sha256[:16]}…"
            )


def file_sha256(storage: Storage, relative: str) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    try:
        with storage.open_input(relative) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as exc:
        raise StorageError(f"cannot read {storage.name}/{relative}: {reason_of(exc)}") from exc
    return digest.hexdigest()


def _checked_body(data: bytes, place: str) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError as exc:
        raise DamagedError(f"{place} is not JSON: {exc}") from exc
    if not isinstance(body, dict) or not isinstance(body.get("format"), int):
        raise DamagedError(f"{place} is not the manifest of a sample store")
    if body["format"] > FORMAT:
        raise DamagedError(
            f"{place} has format {body['format']}; this version reads up to {FORMAT}. It was "
            "written by a newer version"
        )
    claimed = body.pop("sha256", None)
    if claimed != hashlib.sha256(_canonical(body)).hexdigest():
        raise DamagedError(f"{place} is not what was written: its checksum does not match")
    return body


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
