"""Which files does a source consist of, and which task reads which of them?

Lists and groups files; does not open them.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import PlanError, Problem, StorageError
from orchestrator.plan.data import CsvSource, JsonlSource, ParquetSource, TextSource
from orchestrator.storage import redact_uri
from orchestrator.storage.failures import reason_of
from orchestrator.storage.uri import is_uri, resolve_uri

FileSource = TextSource | JsonlSource | CsvSource | ParquetSource
"""The sources that consist of files."""

STDLIB_PATH = "python:stdlib"
_STDLIB_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
)
# What opening one more file costs, in bytes read meanwhile: keeps thousands of tiny files
# from landing in one group.
_FILE_WEIGHT_BYTES = 4096


@dataclass(frozen=True)
class Piece:
    """One source file: its path within its file system, size, and time of change."""

    path: str
    size_bytes: int
    mtime_ns: int


def source_root(source: FileSource, base_dir: Path | None = None) -> tuple[Any, str]:
    """``(pyarrow file system, path within it)`` that ``source.path`` names.

    A relative path is taken from ``base_dir`` (the working directory by default). Raises
    ``PlanError`` for a URI that cannot be opened.
    """
    if source.path == STDLIB_PATH:
        return fs.LocalFileSystem(), sysconfig.get_path("stdlib")
    try:
        filesystem, root, _ = resolve_uri(source.path, base_dir)
    except StorageError as exc:
        raise PlanError([Problem("data.source.path", str(exc))]) from exc
    return filesystem, root


def list_pieces(source: FileSource, base_dir: Path | None = None) -> list[Piece]:
    """The source's files, sorted by path.

    ``python:stdlib`` is the standard library of the running Python without its tests and
    without installed packages. Names that begin with a dot match only a glob that says so.
    Raises ``PlanError`` where the path is missing or nothing matches.
    """
    filesystem, root = source_root(source, base_dir)
    info = _info(filesystem, root, source)
    if info.type == fs.FileType.NotFound:
        raise PlanError([_missing(source, root)])
    if info.type != fs.FileType.Directory:
        return [Piece(root, int(info.size or 0), int(info.mtime_ns or 0))]
    skipped = _STDLIB_SKIPPED if source.path == STDLIB_PATH else frozenset()
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    found = list(_walk(root, skipped) if is_local else _select(filesystem, root))
    matches = glob_pattern(source.glob).fullmatch
    pieces = [piece for relative, piece in found if matches(relative)]
    if not pieces:
        raise PlanError([_no_match(source, root, [relative for relative, _ in found])])
    return sorted(pieces, key=lambda piece: piece.path)


def group_pieces(pieces: Sequence[Piece], shards: int) -> list[list[Piece]]:
    """At most ``shards`` contiguous groups of about equal bytes, none of them empty.

    Contiguous, so that the order of samples does not depend on the number of groups. A group
    exceeds its equal share by at most its largest file.
    """
    if shards < 1:
        raise ValueError(f"at least 1 shard is needed, not {shards}")
    weights = [piece.size_bytes + _FILE_WEIGHT_BYTES for piece in pieces]
    total = sum(weights)
    groups: list[list[Piece]] = [[] for _ in range(shards)]
    before = 0
    for piece, weight in zip(pieces, weights, strict=True):
        middle = 2 * before + weight  # twice the middle, to stay with integers
        groups[middle * shards // (2 * total)].append(piece)
        before += weight
    return [group for group in groups if group]


def glob_pattern(glob: str) -> re.Pattern[str]:
    """A regular expression for whole relative paths: ``**`` crosses folders, ``*`` does not."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    pattern = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            pattern += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
        else:
            pattern += _segment(part) + ("" if last else "/")
    return re.compile(pattern, re.DOTALL)


def _segment(part: str) -> str:
    pattern = "" if part.startswith(".") else r"(?!\.)"
    for token in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if token == "*":
            pattern += "[^/]*"
        elif token == "?":
            pattern += "[^/]"
        elif len(token) > 2 and token.startswith("["):
            body = token[1:-1].replace("\\", r"\\").replace("[", r"\[")
            pattern += f"[^/{body[1:]}]" if body.startswith("!") else f"[{body}]"
        else:
            pattern += re.escape(token)
    return pattern


def _walk(root: str, skipped: frozenset[str]) -> Iterator[tuple[str, Piece]]:
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, onerror=_cannot_list, followlinks=True):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:  # a symbolic link that leads back
            names.clear()
            continue
        seen.add(identity)
        names[:] = sorted(set(names) - skipped)
        for name in files:
            path = f"{folder}/{name}"
            piece = _local_piece(path)
            if piece is not None:
                yield path[len(root) :].lstrip("/"), piece


def _local_piece(path: str) -> Piece | None:
    try:
        status = Path(path).stat()
    except OSError:
        status = Path(path).lstat()  # a link to nothing: reading it will say so
        return Piece(path, status.st_size, status.st_mtime_ns)
    if not stat.S_ISREG(status.st_mode):
        return None  # a socket or pipe has no end
    return Piece(path, status.st_size, status.st_mtime_ns)


def _cannot_list(error: OSError) -> None:
    raise StorageError(f"cannot list {error.filename}: {error.strerror}") from error


def _select(filesystem: Any, root: str) -> Iterator[tuple[str, Piece]]:
    try:
        infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(f"cannot list {root}: {reason_of(exc)}") from exc
    for info in infos:
        if info.type == fs.FileType.File:
            relative = info.path.lstrip("/").removeprefix(root.lstrip("/")).lstrip("/")
            yield relative, Piece(info.path, int(info.size or 0), int(info.mtime_ns or 0))


def _info(filesystem: Any, root: str, source: FileSource) -> Any:
    try:
        return filesystem.get_file_info(root)
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(f"cannot look up {redact_uri(source.path)}: {reason_of(exc)}") from exc


def _missing(source: FileSource, root: str) -> Problem:
    place = redact_uri(source.path) if is_uri(source.path) else root
    what = f"there is no file or folder {place}"
    parent = Path(root).parent
    if is_uri(source.path) or not parent.is_dir():
        return Problem("data.source.path", what)
    names = [path.name for path in parent.iterdir()]
    near = difflib.get_close_matches(Path(root).name, names, n=2)
    return Problem("data.source.path", what, works=", ".join(str(parent / name) for name in near))


def _no_match(source: FileSource, root: str, names: list[str]) -> Problem:
    place = redact_uri(source.path) if is_uri(source.path) else root
    suffixes = Counter(Path(name).suffix or "no suffix" for name in names)
    counted = ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(5))
    common = [suffix for suffix, _ in suffixes.most_common(1) if suffix != "no suffix"]
    return Problem(
        "data.source.glob",
        f"no files match {source.glob!r} below {place}",
        arithmetic=f"{len(names)} files are there" + (f": {counted}" if names else ""),
        works=f"'**/*{common[0]}'" if common else "",
    )
