"""Which run does a person mean? A name, a run's folder, or the plan file it was started with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from orchestrator.errors import StorageError
from orchestrator.observe.runs import is_run
from orchestrator.plan.load import load_plan
from orchestrator.storage import Storage

DEFAULT_STORAGE = "runs"
"""Where runs lie when neither the command line nor a plan says so, as in a plan."""


def find_run(name: str, storage: str | None) -> tuple[Storage, str]:
    """The storage and the name of the run that ``name`` means; ``storage`` as on the command
    line.

    Raises ``PlanError`` for a plan file that cannot be read and ``StorageError`` for a folder
    that is not a run's. Whether a run of a bare name exists is for the caller to find out.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        plan = load_plan(path).plan
        return Storage.open(storage or plan.storage), plan.name
    base = Storage.open(storage or DEFAULT_STORAGE)
    is_bare = "/" not in name and name not in ("", ".", "..")
    if is_bare and (is_run(base, name) or not path.is_dir()):
        return base, name
    head, tail = _parted(Storage.open(name or ".").uri)
    folder = Storage.open(head)
    if tail and is_run(folder, tail):
        return folder, tail
    if is_bare:
        return base, name
    raise StorageError(
        f"{folder.name.rstrip('/')}/{tail} is not the folder of a run: it has no journal\n"
        "  works: a run's name with --storage, its folder, or its plan file; axis ls lists them"
    )


def _parted(uri: str) -> tuple[str, str]:
    """The folder above and the last name of a path or URI; a query stays with the folder."""
    if "://" not in uri:
        head, _, tail = uri.rstrip("/").rpartition("/")
        return head or "/", tail
    parts = urlsplit(uri)
    head, _, tail = parts.path.rstrip("/").rpartition("/")
    return urlunsplit(parts._replace(path=head)), tail
