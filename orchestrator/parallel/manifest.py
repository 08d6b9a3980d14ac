"""Does this checkpoint exist, and is it what was written? Answered before a byte of it is used.

A checkpoint is a folder with tensors and a ``manifest.json`` that is written last: without a
manifest there is no checkpoint. The manifest holds size and SHA-256 of every file, and its own
checksum, which is made alike in every format: one that does not match is damage, one that matches
a format unknown here is a newer version's. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator import __version__
from orchestrator.errors import DamagedCheckpointError, Problem, ResumeRefused
from orchestrator.storage import Storage

FORMAT = 2
"""The newest layout that this version writes and reads. 1 knew neither ``tensors`` nor
``skipped``, and stored tied parameters under each of their names."""
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

    ``step`` optimizer steps were taken and ``consumed`` samples used up, those passed over
    included, which is all there is to know about the order of samples and about random numbers,
    both functions of the position. ``skipped`` are the positions passed over, as ``[first,
    last)``. ``mesh`` has the degrees it was written on and binds nobody. ``store_hash`` names the
    samples. ``metrics`` is empty where there was no evaluation. ``tensors`` has the shapes of
    the model's parameters and buffers by name. ``seconds`` is what the checkpoint took in all,
    ``stall_seconds`` what training waited for it. ``written_by`` is the version that wrote it.
    """

    step: int
    attempt: int
    consumed: int
    seed: int
    plan_hash: str
    store_hash: str
    mesh: Mapping[str, int]
    metrics: Mapping[str, float]
    files: tuple[FileEntry, ...] = ()
    seconds: float = 0.0
    stall_seconds: float = 0.0
    tensors: Mapping[str, Sequence[int]] = field(default_factory=dict)
    skipped: tuple[tuple[int, int], ...] = ()
    written_by: str = __version__
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
        return json.dumps({**body, "checksum": checksum_of(body)}, indent=1).encode() + b"\n"


def folder_name(step: int, attempt: int) -> str:
    """``step-00000100-attempt-0001``; names sort by step, then attempt."""
    return f"step-{step:08d}-attempt-{attempt:04d}"


def parse_folder(name: str) -> tuple[int, int] | None:
    """Step and attempt of a folder's name, or of a path to it; ``None`` for another name."""
    match = _FOLDER.fullmatch(name.rpartition("/")[2])
    return (int(match[1]), int(match[2])) if match else None


def write_manifest(run: Storage, manifest: CheckpointManifest) -> None:
    """Make a checkpoint exist: write its manifest, durably, after all its files."""
    run.write_atomic(f"{manifest.folder}/{MANIFEST}", manifest.to_json())


def read_manifest(checkpoint: Storage) -> CheckpointManifest:
    """The manifest in a checkpoint's folder.

    Raises ``DamagedCheckpointError`` where it is missing or damaged, and ``ResumeRefused`` where it
    is sound, but of a newer format.
    """
    place = f"{checkpoint.name}/{MANIFEST}"
    if not checkpoint.exists(MANIFEST):
        raise DamagedCheckpointError(f"{place} is missing: the checkpoint was never completed")
    try:
        body = json.loads(checkpoint.read_bytes(MANIFEST))
        found_format, checksum = body["format"], body.pop("checksum")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedCheckpointError(f"{place} is not a manifest: {error!r}") from error
    if checksum_of(body) != checksum:
        raise DamagedCheckpointError(f"{place} does not match its own checksum")
    if type(found_format) is not int or found_format > FORMAT:
        raise _newer(place, body)
    return _from_json(place, body)


def _from_json(place: str, body: dict[str, Any]) -> CheckpointManifest:
    try:
        body["files"] = tuple(FileEntry(**file) for file in body["files"])
        body["skipped"] = tuple((first, last) for first, last in body.get("skipped", ()))
        body["tensors"] = {name: tuple(size) for name, size in body.get("tensors", {}).items()}
        return CheckpointManifest(**{"written_by": "", **body})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"{place} does not have the fields of its format: {error}"
        ) from error


def _newer(place: str, body: Mapping[str, Any]) -> ResumeRefused:
    writer = body.get("written_by")
    needed = f"axis-orchestrator {writer}" if writer else "the version that wrote it"
    return ResumeRefused(
        [
            Problem(
                "name",
                f"{place} is of a newer format than this version reads; it is not damaged",
                arithmetic=f"format {body.get('format')}; axis-orchestrator {__version__} reads "
                f"formats 1 to {FORMAT}",
                works=f"{needed} or a later one; --fresh starts anew, or another name",
            )
        ]
    )


def verify_checkpoint(checkpoint: Storage, share: tuple[int, int] = (0, 1)) -> CheckpointManifest:
    """Check every file of a checkpoint against its manifest; returns the manifest.

    Nothing is unpickled. ``share = (i, n)`` checks all sizes but the contents of every n-th file
    alone, beginning with the i-th, for n workers that divide the reading. Raises
    ``DamagedCheckpointError`` naming the first file that is missing, or of another size or content,
    and ``ResumeRefused`` for a newer format.
    """
    manifest = check_sizes(checkpoint)
    first, stride = share
    for file in manifest.files[first::stride]:
        _check_content(checkpoint, file)
    return manifest


def check_sizes(checkpoint: Storage) -> CheckpointManifest:
    """Check that every file is there and as long as it was written; returns the manifest.

    Costs a look-up per file; contents are not read. Raises as ``verify_checkpoint`` does.
    """
    manifest = read_manifest(checkpoint)
    if METADATA not in {file.name for file in manifest.files}:
        raise DamagedCheckpointError(f"{checkpoint.name}/{MANIFEST} does not list {METADATA}")
    for file in manifest.files:
        _check_size(checkpoint, file)
    return manifest


def _check_size(checkpoint: Storage, file: FileEntry) -> None:
    entry = checkpoint.stat(file.name)
    if entry is None:
        raise DamagedCheckpointError(f"{checkpoint.name}/{file.name} is missing")
    if entry.size_bytes != file.size_bytes:
        raise DamagedCheckpointError(
            f"{checkpoint.name}/{file.name} has {entry.size_bytes} bytes, "
            f"but {file.size_bytes} were written"
        )


def _check_content(checkpoint: Storage, file: FileEntry) -> None:
    digest = hashlib.sha256()
    with checkpoint.open_input(file.name) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        raise DamagedCheckpointError(
            f"{checkpoint.name}/{file.name} holds other bytes than were written "
            f"(SHA-256 {digest.hexdigest()[:16]}…, expected {file.sha256[:16]}…)"
        )


def checksum_of(body: Mapping[str, Any]) -> str:
    """The checksum of a manifest without it: SHA-256 of its canonical JSON, in every format."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
