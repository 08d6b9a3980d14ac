"""Which attempt owns a run that has no coordinator?

Each attempt takes the next number by leaving a file of that name in the run's folder; the highest
number owns the run. Nothing that an attempt wrote counts before its commit, and a commit
looks whether a later attempt has begun. No clock is compared, and no lock is held, which a process
that is stopped would keep for ever.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import Fenced, StorageError
from orchestrator.parallel.manifest import CHECKPOINTS, MANIFEST, CheckpointManifest, parse_folder
from orchestrator.parallel.upkeep import discard
from orchestrator.storage import Storage
from orchestrator.storage.durable import make_folder, sync_path

ATTEMPTS = "attempts"
"""The folder of a run with a file for each attempt."""

_PENDING = "manifest.pending"


def take_attempt(run: Storage) -> int:
    """The next number, durably taken; from now on no earlier attempt can commit.

    Of two that ask at the same time each gets its own where storage is local; elsewhere both may
    get the same.
    """
    owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode() + b"\n"
    while True:
        attempt = max(_newest(run), _newest_folder(run)) + 1
        place = f"{ATTEMPTS}/{attempt:04d}"
        if not run.is_local:
            run.write_atomic(place, owner)
            return attempt
        try:
            _create(run.local_path(place), owner)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"cannot write {run.name}/{place}: {error.strerror}") from error
        return attempt


def _create(path: Path, data: bytes) -> None:
    """A file that was not there before. Its name is what counts, whatever a crash leaves in it."""
    make_folder(path.parent)
    with path.open("xb") as file:
        file.write(data)
    sync_path(path)
    sync_path(path.parent)


def check_owner(run: Storage, attempt: int) -> None:
    """Raise ``Fenced`` where a later attempt has begun."""
    newest = _newest(run)
    if newest > attempt:
        raise Fenced(f"attempt {attempt} may not commit: attempt {newest} owns {run.name}")


def commit(run: Storage, manifest: CheckpointManifest) -> None:
    """Make a checkpoint exist, unless a later attempt has begun: then ``Fenced`` is raised.

    The manifest is written under another name, and gets its own after the look at who owns the
    run. An attempt that begins deletes what has no manifest. So a worker that is stopped
    anywhere in between finds, once that is done, either a later owner or nothing to rename.
    """
    pending = f"{manifest.folder}/{_PENDING}"
    try:
        check_owner(run, manifest.attempt)
        run.write_atomic(pending, manifest.to_json())
        check_owner(run, manifest.attempt)
        run.move(pending, f"{manifest.folder}/{MANIFEST}")
    except (Fenced, StorageError):
        _leave_nothing_if_fenced(run, manifest)
        raise


def _leave_nothing_if_fenced(run: Storage, manifest: CheckpointManifest) -> None:
    """Where a later attempt has begun, leave nothing of this checkpoint and raise ``Fenced``."""
    try:
        check_owner(run, manifest.attempt)
    except Fenced:
        with suppress(StorageError):
            discard(run, manifest.folder)
        raise


def _newest(run: Storage) -> int:
    names = (entry.path.rpartition("/")[2] for entry in run.list(ATTEMPTS))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _newest_folder(run: Storage) -> int:
    """Of attempts before there were such files, or under a coordinator."""
    keys = (parse_folder(entry.path) for entry in run.list(CHECKPOINTS))
    return max((key[1] for key in keys if key), default=0)
