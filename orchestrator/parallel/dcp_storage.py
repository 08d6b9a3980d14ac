"""How does ``torch.distributed.checkpoint`` write to and read from ``Storage``?

Writing takes the SHA-256 of every byte on its way; reading takes the metadata, which is a pickle,
only from bytes whose SHA-256 is known. Knows nothing of models.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from torch.distributed.checkpoint.filesystem import (
    FileSystemBase,
    FileSystemReader,
    FileSystemWriter,
)
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from orchestrator.errors import AxisError, DamagedCheckpointError, StorageError
from orchestrator.parallel.manifest import METADATA, CheckpointManifest, FileEntry
from orchestrator.storage import Storage
from orchestrator.storage.durable import sync_path
from orchestrator.storage.failures import reason_of

_BUFFER_BYTES = 4 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}


class HashingStream(io.RawIOBase):
    """Passes bytes on to a file and keeps their number and SHA-256.

    ``failure`` is the first error in doing so: torch's own writer does not pass it on.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self.failure: BaseException | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        view = memoryview(data).cast("B")
        try:
            self.target.write(view)
        except (OSError, pa.ArrowException) as error:
            self.failure = self.failure or error
            raise
        self.digest.update(view)
        self.size_bytes += len(view)
        return len(view)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def close(self) -> None:
        """Close the file; its bytes are handed to the operating system or the store."""
        if not self.closed:
            self.target.close()
        super().close()


class CheckpointFiles(FileSystemBase):
    """DCP's view of one checkpoint folder; paths are names within it."""

    def __init__(self, checkpoint: Storage, planned_bytes: int = 0) -> None:
        self.checkpoint = checkpoint
        self.planned_bytes = planned_bytes
        self.written: dict[str, FileEntry] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        """A stream to read (``rb``), or to write and count (``wb``)."""
        name = str(path)
        if mode == "rb":
            with self.checkpoint.open_input(name) as source:
                yield source
            return
        hashing = HashingStream(self.checkpoint.open_output(name))
        try:
            with io.BufferedWriter(hashing, _BUFFER_BYTES) as stream:
                yield stream
            if self.checkpoint.is_local:
                sync_path(self.checkpoint.local_path(name))
        except AxisError:
            raise
        except Exception as error:
            cause = hashing.failure or error
            if not isinstance(cause, (OSError, pa.ArrowException)):
                raise
            raise self._unwritten(name, hashing.size_bytes, cause) from error
        self.written[name] = FileEntry(name, hashing.size_bytes, hashing.digest.hexdigest())

    def _unwritten(self, name: str, size_bytes: int, cause: BaseException) -> StorageError:
        """What could not be written and why; for a full disk, how much room there is."""
        text = f"cannot write {self.checkpoint.name}/{name}: {reason_of(cause)}"
        if getattr(cause, "errno", None) not in _FULL:
            return StorageError(text)
        text += f" after {size_bytes:,} bytes of it"
        if self.planned_bytes:
            text += f" (this worker's part has {self.planned_bytes:,})"
        if self.checkpoint.is_local:
            usage = shutil.disk_usage(self.checkpoint.local_path())
            text += f"; {usage.free:,} of {usage.total:,} bytes are free there"
        return StorageError(text)

    def concat_path(self, path: Any, suffix: str) -> str:  # noqa: ARG002
        """Names are relative to the folder already."""
        return suffix

    def rename(self, path: Any, new_path: Any) -> None:
        """Rename a file that was written."""
        self.checkpoint.move(str(path), str(new_path))
        entry = self.written.pop(str(path))
        self.written[str(new_path)] = FileEntry(str(new_path), entry.size_bytes, entry.sha256)

    def init_path(self, path: Any) -> str:  # noqa: ARG002
        """Names are relative to the folder already."""
        return ""

    def mkdir(self, path: Any) -> None:
        """Folders come with their files."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:  # noqa: ARG003
        """The folder is given to the constructor, never by its id."""
        return True

    def exists(self, path: Any) -> bool:
        """Whether a file is there."""
        return self.checkpoint.exists(str(path))

    def rm_file(self, path: Any) -> None:
        """Delete a file."""
        self.checkpoint.delete(str(path))


class CheckpointWriter(FileSystemWriter):
    """DCP's writer to a checkpoint folder; ``files.written`` lists what this rank wrote."""

    def __init__(self, checkpoint: Storage, planned_bytes: int = 0) -> None:
        super().__init__("", sync_files=False)  # synced when a stream is closed
        self.files = CheckpointFiles(checkpoint, planned_bytes)
        self.fs = self.files  # type: ignore[assignment]
        self.path = ""


class CheckpointReader(FileSystemReader):
    """DCP's reader from a checkpoint folder that was verified against ``manifest``."""

    def __init__(self, checkpoint: Storage, manifest: CheckpointManifest) -> None:
        super().__init__("")
        self.fs = CheckpointFiles(checkpoint)  # type: ignore[assignment]
        self.path = ""
        self.checkpoint = checkpoint
        self.metadata_sha256 = next(f.sha256 for f in manifest.files if f.name == METADATA)

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        """DCP's index of tensors, unpickled from the very bytes that were checked."""
        data = self.checkpoint.read_bytes(METADATA)
        if hashlib.sha256(data).hexdigest() != self.metadata_sha256:
            raise DamagedCheckpointError(
                f"{self.checkpoint.name}/{METADATA} changed while it was read"
            )
        metadata: Metadata = pickle.loads(data)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata
