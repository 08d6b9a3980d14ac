"""Where do a run's bytes lie, and how are they written so that a crash leaves no half file?

``Storage`` is a folder on any ``pyarrow.fs``. It does not know what the files mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import AxisError, StorageError
from orchestrator.storage import durable
from orchestrator.storage.failures import reason_of
from orchestrator.storage.uri import extend_uri, redact_uri, resolve_uri

# Folders are only prefixes here: creating one would leave an empty object behind.
_PREFIX_STORES = frozenset({"s3", "gcs", "abfs"})

BLOCK_BYTES = 1 << 20
"""How much of a file that is read in blocks is in memory at a time."""


@dataclass(frozen=True)
class Entry:
    """A file or folder; ``path`` is relative to the ``Storage`` that listed it.

    ``size_bytes`` is 0 for a folder, ``mtime_ns`` is 0 where the file system keeps no time.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    is_dir: bool


@dataclass(frozen=True)
class Storage:
    """A folder on a pyarrow file system; a value that can be pickled and sent to workers.

    Paths given to its methods are relative to the folder, with ``/`` between parts. All
    failures are ``StorageError`` naming the place and the reason. ``uri`` is absolute and may
    hold credentials; ``name`` is the same without them.
    """

    filesystem: Any
    root: str
    uri: str

    @classmethod
    def open(cls, uri: str, base: Path | None = None) -> Storage:
        """The folder named by a path (relative to ``base``) or a URI; it need not exist yet."""
        return cls(*resolve_uri(uri, base))

    @classmethod
    def on(cls, filesystem: Any, root: str, uri: str | None = None) -> Storage:
        """The folder ``root`` of a ``pyarrow.fs.FileSystem`` that exists already."""
        return cls(filesystem, root.rstrip("/"), uri or f"{filesystem.type_name}://{root}")

    @property
    def is_local(self) -> bool:
        """Whether files can be opened and mapped by path on this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The folder as it may be shown: without credentials."""
        return redact_uri(self.uri)

    def local_path(self, relative: str = "") -> Path:
        """The path on this machine. Raises ``StorageError`` where storage is not local."""
        if not self.is_local:
            raise StorageError(f"{self.name} has no path on this machine")
        return Path(self._full(relative))

    def child(self, relative: str) -> Storage:
        """A folder below this one."""
        return Storage(self.filesystem, self._full(relative), extend_uri(self.uri, relative))

    def read_bytes(self, relative: str) -> bytes:
        """All bytes of a file."""
        with self._failing("read", relative):
            with self.filesystem.open_input_stream(self._full(relative), compression=None) as file:
                data: bytes = file.read()
            return data

    def read_blocks(self, relative: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The bytes of a file in order, up to ``block_bytes`` at a time, to where it ends now.

        A local file that is replaced or deleted meanwhile is read on as it was.
        """
        with self._failing("read", relative):
            opened = self.filesystem.open_input_stream(self._full(relative), compression=None)
        with opened:
            while True:
                with self._failing("read", relative):
                    block: bytes = opened.read(block_bytes)
                if not block:
                    return
                yield block

    def write_atomic(self, relative: str, data: bytes) -> None:
        """Replace a file as a whole; on return it is durable.

        Local: written aside, synced, renamed, folder synced. Elsewhere: one put of the object.
        """
        with self._failing("write", relative):
            if self.is_local:
                durable.replace_file(self.local_path(relative), data)
                return
            self._make_parent(relative)
            with self.filesystem.open_output_stream(self._full(relative), compression=None) as out:
                out.write(data)

    def append(self, relative: str, data: bytes) -> None:
        """Add bytes to the end of a file; on return they are durable.

        Local: ``O_APPEND`` and ``fsync``; a crash may leave a torn tail, which the reader must
        recognise. Elsewhere the object is read and written anew: one writer at a time, and a
        cost that grows with its size, so keep such files short.
        """
        if self.is_local:
            with self._failing("append to", relative):
                durable.append_file(self.local_path(relative), data)
            return
        before = self.read_bytes(relative) if self.exists(relative) else b""
        self.write_atomic(relative, before + data)

    def exists(self, relative: str = "") -> bool:
        """Whether there is a file or folder of this name."""
        with self._failing("look up", relative):
            info = self.filesystem.get_file_info(self._full(relative))
        return bool(info.type != fs.FileType.NotFound)

    def stat(self, relative: str) -> Entry | None:
        """Size and time of a file or folder; ``None`` where there is none."""
        with self._failing("look up", relative):
            info = self.filesystem.get_file_info(self._full(relative))
        return None if info.type == fs.FileType.NotFound else self._entry(info)

    def list(self, relative: str = "", recursive: bool = False) -> list[Entry]:
        """What lies in a folder, sorted by path; nothing where there is no such folder."""
        selector = fs.FileSelector(self._full(relative), allow_not_found=True, recursive=recursive)
        with self._failing("list", relative):
            infos = self._found(selector)
        found = [self._entry(info) for info in infos if info.type != fs.FileType.NotFound]
        return sorted(found, key=lambda entry: entry.path)

    def delete(self, relative: str) -> None:
        """Delete a file."""
        with self._failing("delete", relative):
            self.filesystem.delete_file(self._full(relative))

    def delete_dir(self, relative: str = "") -> None:
        """Delete a folder and all that is in it."""
        with self._failing("delete", relative):
            self.filesystem.delete_dir(self._full(relative))

    def move(self, source: str, target: str) -> None:
        """Rename a file or folder, durably where local; a file that is there is replaced.

        Object stores copy and delete, so a folder there moves file by file.
        """
        with self._failing(f"move to {target}", source):
            if self.is_local:
                durable.move_path(self.local_path(source), self.local_path(target))
                return
            info = self.filesystem.get_file_info(self._full(source))
            if info.type != fs.FileType.Directory:
                self._make_parent(target)
                self.filesystem.move(self._full(source), self._full(target))
                return
        for entry in self.list(source, recursive=True):
            if not entry.is_dir:
                self.move(entry.path, target + entry.path[len(source) :])
        self.delete_dir(source)

    def open_input(self, relative: str) -> Any:
        """A seekable ``pyarrow.NativeFile`` for reading."""
        with self._failing("open", relative):
            return self.filesystem.open_input_file(self._full(relative))

    def open_output(self, relative: str) -> Any:
        """A ``pyarrow.NativeFile`` for writing a new file; folders above it are created.

        Not atomic: write under a ``temporary_name`` and ``move`` it.
        """
        with self._failing("write", relative):
            self._make_parent(relative)
            return self.filesystem.open_output_stream(self._full(relative), compression=None)

    def check_writable(self) -> None:
        """Write, rename, read and delete a small file.

        Raises ``StorageError`` saying which of these failed, and leaves nothing behind.
        """
        probe = durable.temporary_name("probe")
        moved, content = f"{probe}-moved", b"axis"
        try:
            self.write_atomic(probe, content)
            self.move(probe, moved)
            if self.read_bytes(moved) != content:
                raise StorageError(f"{self.name} gives back other bytes than were written")
            self.delete(moved)
        except StorageError as exc:
            self._discard(probe, moved)
            raise StorageError(f"{self.name} is not writable: {exc}") from exc

    def _discard(self, *names: str) -> None:
        for name in names:
            try:
                self.filesystem.delete_file(self._full(name))
            except (OSError, pa.ArrowException):
                continue  # never written, or as unreachable as what failed before

    def _full(self, relative: str) -> str:
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts:
            raise StorageError(f"{relative!r} is not a path below {self.name}")
        if not pure.parts:
            return self.root
        return f"{self.root.rstrip('/')}/{pure}" if self.root else str(pure)

    def _make_parent(self, relative: str) -> None:
        if self.is_local:
            durable.make_folder(self.local_path(relative).parent)
        elif self.filesystem.type_name not in _PREFIX_STORES:
            parent = self._full(relative).rpartition("/")[0]
            if parent:
                self.filesystem.create_dir(parent, recursive=True)

    def _found(self, selector: Any) -> Any:
        try:
            return self.filesystem.get_file_info(selector)
        except FileNotFoundError:
            # pyarrow asks again whether a folder is there that it could not list, and is surprised
            # by one that was created in between.
            return self.filesystem.get_file_info(selector)

    def _entry(self, info: Any) -> Entry:
        is_dir = bool(info.type == fs.FileType.Directory)
        # Some file systems answer without the leading slash that the root was given with.
        path = str(info.path).lstrip("/").removeprefix(self.root.lstrip("/")).lstrip("/")
        return Entry(path, 0 if is_dir else int(info.size or 0), int(info.mtime_ns or 0), is_dir)

    @contextmanager
    def _failing(self, verb: str, relative: str) -> Iterator[None]:
        try:
            yield
        except AxisError:
            raise
        except (OSError, pa.ArrowException) as exc:
            place = redact_uri(extend_uri(self.uri, relative))
            raise StorageError(f"cannot {verb} {place}: {reason_of(exc)}") from exc
