"""Bytes in a folder, wherever the folder is: a local path or any ``pyarrow.fs`` URI."""

from orchestrator.storage.folder import Entry, Storage
from orchestrator.storage.uri import redact_uri

__all__ = ["Entry", "Storage", "redact_uri"]
