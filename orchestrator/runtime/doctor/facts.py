"""What is measured of one machine, by a process on it. Imports neither Ray nor torch."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

from orchestrator import __version__
from orchestrator.errors import AxisError
from orchestrator.runtime.submit.address import DEFAULT_TOKEN_PATH, find_token
from orchestrator.storage import Storage

_SHM = Path("/dev/shm")


@dataclass(frozen=True)
class StorageFacts:
    """How storage answers; ``trouble`` says why it does not."""

    name: str
    write_seconds: float = 0.0
    list_seconds: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class MachineFacts:
    """One machine. ``said_at_seconds`` is its wall clock, ``free_port`` one that was free."""

    host: str
    python: str
    ray: str
    torch: str
    axis: str
    shm_bytes: int
    disk_path: str
    disk_free_bytes: int
    open_files: int
    num_devices: int
    num_devices_of_ray: int
    said_at_seconds: float
    free_port: int
    storage: StorageFacts | None = None


@dataclass(frozen=True)
class TokenFacts:
    """Where the token is that this machine would show."""

    mode: str
    said_by: str = ""
    path: Path | None = None
    permissions: int | None = None
    trouble: str = ""


def measure(storage_uri: str | None, num_devices_of_ray: int | None = None) -> MachineFacts:
    """This machine, and its way to the storage; ``num_devices_of_ray`` is what Ray believes."""
    said_at = time.time()
    num_devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    disk = os.environ.get("RAY_TMPDIR", "/tmp")
    return MachineFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        ray=_version("ray"),
        torch=_version("torch"),
        axis=__version__,
        shm_bytes=shutil.disk_usage(_SHM).total if _SHM.is_dir() else 0,
        disk_path=disk,
        disk_free_bytes=shutil.disk_usage(disk).free,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        num_devices=num_devices,
        num_devices_of_ray=num_devices if num_devices_of_ray is None else num_devices_of_ray,
        said_at_seconds=said_at,
        free_port=_free_port(),
        storage=measure_storage(storage_uri) if storage_uri else None,
    )


def measure_storage(uri: str) -> StorageFacts:
    """Write, rename, read, delete and list, each made durable; nothing stays."""
    try:
        storage = Storage.open(uri)
    except AxisError as error:
        return StorageFacts(uri, trouble=str(error))
    try:
        with left_as_found(storage):
            began = time.perf_counter()
            storage.check_writable()
            written = time.perf_counter()
            storage.list()
            listed = time.perf_counter()
    except AxisError as error:
        return StorageFacts(storage.name, trouble=str(error))
    return StorageFacts(storage.name, written - began, listed - written)


@contextmanager
def left_as_found(storage: Storage) -> Iterator[None]:
    """A folder that is not there before, and is empty afterwards, is removed again."""
    is_new = storage.is_local and not storage.exists()
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # something is in it, or it was never made
                storage.local_path().rmdir()


def measure_token(environment: Mapping[str, str]) -> TokenFacts:
    """Where Ray would find its token, and who may read that."""
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    try:
        token = find_token(environment)
    except AxisError as error:
        return TokenFacts(mode, trouble=str(error).partition("\n")[0])
    if token is None or token.said_by == "RAY_AUTH_TOKEN":
        return TokenFacts(mode, token.said_by if token else "")
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH", DEFAULT_TOKEN_PATH)).expanduser()
    return TokenFacts(mode, token.said_by, path, stat.S_IMODE(path.stat().st_mode))


def _version(package: str) -> str:
    try:
        return package_version(package)
    except PackageNotFoundError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
