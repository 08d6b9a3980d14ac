"""Small disks that can be filled, and folders that nobody may write into for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory, mounted at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Not one byte more can be written."""
        with suppress_full(), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        with suppress_full(), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0")

    def empty(self) -> None:
        """There is room again."""
        self._ballast.unlink()


@contextmanager
def suppress_full() -> Iterator[None]:
    """Until the disk is full, and no other error."""
    try:
        yield
    except OSError as error:
        if error.errno != 28:
            raise


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[SmallDisk]:
    """Skips where nothing can be mounted."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in ``folder`` can be made, changed or removed, not even by root; skips where files
    have no such attribute."""
    if os.geteuid() != 0 or shutil.which("chattr") is None:
        pytest.skip("needs root and chattr (package e2fsprogs)")
    probe = subprocess.run(
        ["chattr", "-R", "+i", str(folder)], capture_output=True, text=True, timeout=20, check=False
    )
    try:
        if probe.returncode != 0:
            pytest.skip(f"files cannot be made immutable here: {probe.stderr.strip()}")
        yield
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", str(folder)], check=False, timeout=20)
