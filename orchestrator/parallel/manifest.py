"""Does this checkpoint exist, and is it what was written? Answered before a byte of it is used.

A checkpoint is a folder with tensors and a ``manifest.json`` that is written last: without a
manifest there is no checkpoint. The manifest holds size and SHA-256 of every file, and its own
checksum. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import DamagedError
from orchestrator.storage import Storage

FORMAT = 1
"""The newest layout that this version writes and reads."""
MANIFEST = "manifest.json"
METADATA = ".metadata"
CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""

_FOLDER = re.compile(r"step-(\d{8,})-attempt-(\d{4,})")
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint; ``name`` is relative to its folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """What a checkpoint holds, and that it is complete.

    ``step`` optimizer steps were taken and ``consumed`` samples used up, which is all there is to
    know about the order of samples and about random numbers, both functions of the position.
    ``mesh`` has the degrees it was written on and binds nobody. ``store_hash`` names the samples.
    ``metrics`` is empty where there was no evaluation. ``seconds`` is what writing took.
    """

    step: int
    attempt: int
    consumed: int
    seed: int
    plan_hash: str
    store_hash: str
    mesh: Mapping[str, int]
    metrics: Mapping[str, float]
    files: tuple[FileEntry, ...]
    seconds: float
    rng: str = "by-position"
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """Where it lies, relative to the run."""
        return f"{CHECKPOINTS}/{folder_name(self.step, self.attempt)}"

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, the manifest left out."""
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> bytes:
        """The manifest with its own checksum, as it lies on storage."""
        body = asdict(self)
        return json.dumps({**body, "checksum": _checksum(body)}, indent=1).encode() + b"\n"


def folder_name(step: int, attempt: int) -> str:
    """``step-00000100-attempt-0001``; names sort by step, then attempt."""
    return f"step-{step:08d}-attempt-{attempt:04d}"


def parse_folder(name: str) -> tuple[int, int] | None:
    """Step and attempt of a folder's name; ``None`` for another name."""
    match = _FOLDER.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def write_manifest(run: Storage, manifest: CheckpointManifest) -> None:
    """Make a checkpoint exist: write its manifest, durably, after all its files."""
    run.write_atomic(f"{manifest.folder}/{MANIFEST}", manifest.to_json())


def read_manifest(checkpoint: Storage) -> CheckpointManifest:
    """The manifest in a checkpoint's folder.

    Raises ``DamagedError`` where it is missing, damaged, or of a newer format.
    """
    place = f"{checkpoint.name}/{MANIFEST}"
    if not checkpoint.exists(MANIFEST):
        raise DamagedError(f"{place} is missing: the checkpoint was never completed")
    try:
        body = json.loads(checkpoint.read_bytes(MANIFEST))
        found_format, checksum = body["format"], body.pop("checksum")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f"{place} is not a manifest: {error!r}") from error
    if type(found_format) is not int or found_format > FORMAT:
        raise DamagedError(
            f"{place} has format {found_format}; this version reads up to {FORMAT}. "
            "A newer axis-orchestrator wrote it"
        )
    if _checksum(body) != checksum:
        raise DamagedError(f"{place} does not match its own checksum")
    files = tuple(FileEntry(**file) for file in body.pop("files"))
    return CheckpointManifest(**body, files=files)


def verify_checkpoint(checkpoint: Storage, share: tuple[int, int] = (0, 1)) -> CheckpointManifest:
    """Check every file of a checkpoint against its manifest; returns the manifest.

    Nothing is unpickled. ``share = (i, n)`` checks all sizes but the contents of every n-th file
    alone, beginning with the i-th, for n workers that divide the reading. Raises
    ``DamagedError`` naming the first file that is missing, or of another size or content.
    """
    manifest = read_manifest(checkpoint)
    if METADATA not in {file.name for file in manifest.files}:
        raise DamagedError(f"{checkpoint.name}/{MANIFEST} does not list {METADATA}")
    for file in manifest.files:
        _check_size(checkpoint, file)
    first, stride = share
    for file in manifest.files[first::stride]:
        _check_content(checkpoint, file)
    return manifest


def list_checkpoints(run: Storage) -> list[str]:
    """Folders that have a manifest, newest first, relative to the run; none is verified."""
    found = []
    for entry in run.list(CHECKPOINTS):
        key = parse_folder(entry.path.rpartition("/")[2])
        if entry.is_dir and key and run.exists(f"{entry.path}/{MANIFEST}"):
            found.append((key, entry.path))
    return [path for _, path in sorted(found, reverse=True)]


def _check_size(checkpoint: Storage, file: FileEntry) -> None:
    entry = checkpoint.stat(file.name)
    if entry is None:
        raise DamagedError(f"{checkpoint.name}/{file.name} is missing")
    if entry.size_bytes != file.size_bytes:
        raise DamagedError(
            f"{checkpoint.name}/{file.name} has {entry.size_bytes} bytes, "
            f"but {file.size_bytes} were written"
        )


def _check_content(checkpoint: Storage, file: FileEntry) -> None:
    digest = hashlib.sha256()
    with checkpoint.open_input(file.name) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        raise DamagedError(
            f"{checkpoint.name}/{file.name} holds other bytes than were written "
            f"(SHA-256 {digest.hexdigest()[:16]}…, expected {file.sha256[:16]}…)"
        )


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
