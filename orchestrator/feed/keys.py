"""When may an existing sample store be used again? When its key is the same.

The key covers everything that decides which samples come out, and in which order: the source
and its files, the cut into shards, the Job, its options and its source code. It does not
cover hold-out, seed or batch: those decide the order of reading, not what is stored.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.feed.manifest import FORMAT
from orchestrator.feed.pieces import Piece
from orchestrator.job import Job
from orchestrator.plan.data import Data
from orchestrator.storage import Storage

STORES = "_stores"
"""The folder beside the runs that holds sample stores; no run can have that name."""


def store_key(
    data: Data, job: str, options: Mapping[str, Any], code_hash: str, listing_hash: str = ""
) -> str:
    """SHA-256 (hex) of what a store is made from.

    ``job`` is the plan's ``module:Class``; ``listing_hash`` that of the source's files, or, for
    a ``python`` source, ``code_hash`` of its function.
    """
    made_from = {
        "format": FORMAT,
        "source": data.source.model_dump(mode="json"),
        "shards": data.shards,
        "job": job,
        "options": options,
        "code": code_hash,
        "listing": listing_hash,
    }
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def store_folder(root: Storage, key: str) -> Storage:
    """Where the store of this key lies below the plan's storage."""
    return root.child(f"{STORES}/{key[:16]}")


def listing_hash(pieces: Iterable[Piece]) -> str:
    """SHA-256 (hex) over path, size and time of change of each file, in order."""
    digest = hashlib.sha256()
    for piece in pieces:
        line = json.dumps([piece.path, piece.size_bytes, piece.mtime_ns])
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def job_code_hash(job: Job | type[Job]) -> str:
    """``code_hash`` of the Job's class and the user's classes it derives from.

    Modules that these import are not covered: a change there needs ``--fresh`` or another
    option. Raises ``ValueError`` where a class has no source file.
    """
    cls = job if isinstance(job, type) else type(job)
    return code_hash(*(base for base in cls.__mro__ if base not in (Job, object)))


def code_hash(*definitions: Any) -> str:
    """SHA-256 (hex) over the source files in which classes or functions are defined."""
    files = sorted({_source_file(definition) for definition in definitions})
    digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _source_file(definition: Any) -> str:
    try:
        file = inspect.getsourcefile(definition)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        name = getattr(definition, "__qualname__", repr(definition))
        raise ValueError(f"{name} has no source file; define it in a module of its own")
    return str(Path(file).resolve())
