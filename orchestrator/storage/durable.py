"""How does a local file survive a crash? Write aside, sync, rename, sync the folder.

Knows local paths only. Every function raises ``OSError``; ``Storage`` gives it a name.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY_MARK = ".tmp-"
"""Part of the name of every file that is not yet, or will never be, complete."""


def temporary_name(name: str) -> str:
    """A name beside ``name`` that no other writer uses."""
    return f".{name}{TEMPORARY_MARK}{os.getpid()}-{secrets.token_hex(4)}"


def is_temporary(path: str) -> bool:
    """Whether ``path`` is a file that was being written; such files are never read."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and TEMPORARY_MARK in name


def make_folder(folder: Path) -> None:
    """Create ``folder`` and what is missing above it, so that they survive a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_path(folder.parent)


def sync_path(path: Path) -> None:
    """``fsync`` a file or folder by its path."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Readers see the old bytes or the new ones, never a part, and a crash keeps one of them."""
    make_folder(path.parent)
    aside = path.with_name(temporary_name(path.name))
    try:
        _write_all(aside, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def append_file(path: Path, data: bytes) -> None:
    """Add to the end; the bytes are on disk on return. A crash may leave a part of them."""
    is_new = not path.exists()
    if is_new:
        make_folder(path.parent)
    _write_all(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if is_new:
        sync_path(path.parent)


def move_path(source: Path, target: Path) -> None:
    """Rename a file or folder; a file's bytes are on disk before it bears its new name."""
    if source.is_file():
        sync_path(source)
    make_folder(target.parent)
    source.replace(target)
    sync_path(target.parent)
    if source.parent != target.parent:
        sync_path(source.parent)


def _write_all(path: Path, data: bytes, flags: int) -> None:
    descriptor = os.open(path, flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
