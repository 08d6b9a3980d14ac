"""How does ``torch.distributed.checkpoint`` write to and read from ``Storage``?

Writing takes the SHA-256 of every byte on its way; reading takes the metadata, which is a pickle,
only from bytes whose SHA-256 is known. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.checkpoint.filesystem import (
    FileSystemBase,
    FileSystemReader,
    FileSystemWriter,
)
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from orchestrator.errors import DamagedError
from orchestrator.parallel.manifest import METADATA, CheckpointManifest, FileEntry
from orchestrator.storage import Storage
from orchestrator.storage.durable import sync_path

_BUFFER_BYTES = 4 << 20


class HashingStream(io.RawIOBase):
    """Passes bytes on to a file and keeps their number and SHA-256."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        view = memoryview(data).cast("B")
        self.target.write(view)
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

    def __init__(self, checkpoint: Storage) -> None:
        self.checkpoint = checkpoint
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
        with io.BufferedWriter(hashing, _BUFFER_BYTES) as stream:
            yield stream
        if self.checkpoint.is_local:
            sync_path(self.checkpoint.local_path(name))
        self.written[name] = FileEntry(name, hashing.size_bytes, hashing.digest.hexdigest())

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

    def __init__(self, checkpoint: Storage) -> None:
        super().__init__("", sync_files=False)  # synced when a stream is closed
        self.files = CheckpointFiles(checkpoint)
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
            raise DamagedError(f"{self.checkpoint.name}/{METADATA} changed while it was read")
        metadata: Metadata = pickle.loads(data)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata
