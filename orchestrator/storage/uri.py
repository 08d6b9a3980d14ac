"""How is a folder named? Local paths and URIs: opening, extending and showing them.

Knows nothing about what lies in the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import StorageError
from orchestrator.secret import concealer, mask, resolve


def is_uri(text: str) -> bool:
    """Whether ``text`` names a scheme (``s3://…``); everything else is a local path."""
    return "://" in text


def resolve_uri(text: str, base: Path | None = None) -> tuple[Any, str, str]:
    """``(filesystem, path within it, absolute name)`` of a folder.

    A path is taken relative to ``base`` (the working directory by default); ``~`` is expanded.
    References to secrets are looked up for the file system alone: the name of a URI keeps them.
    Raises ``StorageError`` for a scheme that pyarrow does not know or cannot reach, and
    ``SecretMissing``.
    """
    if not text.strip():
        raise StorageError("the storage is named by an empty string; write a folder or a URI")
    whole = resolve(text)
    if not is_uri(whole):
        path = Path(whole).expanduser()
        path = (path if path.is_absolute() else (base or Path.cwd()) / path).absolute()
        normal = _normal_path(path)
        return fs.LocalFileSystem(), normal, normal
    try:
        filesystem, root = fs.FileSystem.from_uri(whole)
    except (OSError, ValueError, TypeError, pa.ArrowException) as exc:
        said = concealer(text)(str(exc).splitlines()[0])
        raise StorageError(
            f"cannot open {redact_uri(text)}: {said}. "
            "Works: a folder such as runs, or a URI of pyarrow.fs such as s3://bucket/folder"
        ) from exc
    if isinstance(filesystem, fs.LocalFileSystem):
        return filesystem, root, root
    return filesystem, root.rstrip("/"), text


def extend_uri(uri: str, relative: str) -> str:
    """The name of something below ``uri``; a query (``?region=…``) stays at the end."""
    if not relative:
        return uri
    if not is_uri(uri):
        return f"{uri.rstrip('/')}/{relative}"
    parts = urlsplit(uri)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{relative}{query}"


def redact_uri(uri: str) -> str:
    """The name without a user, password or query, fit for messages and manifests."""
    if not is_uri(uri):
        return uri
    parts = urlsplit(mask(uri))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _normal_path(path: Path) -> str:
    """Without ``.`` and ``..``, but with symbolic links as the user wrote them."""
    parts: list[str] = []
    for part in path.parts[1:]:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/" + "/".join(parts)
