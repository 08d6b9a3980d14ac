"""An attempt of which one process stops itself at a named point of a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch.distributed as dist
from small_runs import plan_of, run_here

from orchestrator.errors import AxisError
from orchestrator.job_import import load_job
from orchestrator.parallel import attempts
from orchestrator.parallel.dcp_storage import HashingStream
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.storage import Storage


@dataclass
class Stop:
    """Stops ``rank`` once, in its checkpoint number ``nth``, at a point:

    ``saving``: nothing is written yet; ``writing``: a part of its file is; ``committing``: all
    files are; ``looking``: the manifest waits for its name; ``renaming``: nothing but that is left.
    """

    rank: int
    point: str
    nth: int = 2
    num_saving: int = 0
    done: bool = False

    def reach(self, point: str) -> None:
        """The process stops here, until it is sent SIGCONT."""
        due = point == self.point and self.num_saving == self.nth
        if due and dist.get_rank() == self.rank and not self.done:
            self.done = True
            # To this thread, which otherwise might run on for a moment.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class StoppingChannel(LocalChannel):
    """Reaches points of its own accord."""

    stop: Any

    def __init__(self, run: Storage, attempt: int, at: Stop) -> None:
        super().__init__(run, attempt, dist.get_rank())
        self.at = at

    def saving(self) -> None:
        self.at.num_saving += 1
        self.at.reach("saving")
        super().saving()

    def commit(self, manifest: CheckpointManifest) -> None:
        self.at.reach("committing")
        super().commit(manifest)


@contextmanager
def reaching(at: Stop) -> Iterator[None]:
    """Points within what the channel calls."""
    write, look, move = HashingStream.write, attempts.check_owner, Storage.move

    def writing(self: HashingStream, data: Any) -> int:
        size = write(self, data)
        at.reach("writing")
        return size

    def looking(run: Storage, attempt: int) -> None:
        if list(run.local_path().glob("checkpoints/*/manifest.pending")):
            at.reach("looking")
        look(run, attempt)

    def moving(self: Storage, source: str, target: str) -> None:
        if source.endswith("pending"):
            at.reach("renaming")
        move(self, source, target)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(HashingStream, "write", writing))
        stack.enter_context(mock.patch.object(attempts, "check_owner", looking))
        stack.enter_context(mock.patch.object(Storage, "move", moving))
        yield


def stale_case(
    text: str,
    overrides: tuple[str, ...],
    store: str,
    run: str,
    attempt: int,
    resume: str | None,
    at: Stop | None = None,
) -> str:
    """How this rank's attempt ended."""
    plan, storage = plan_of(text, *overrides), Storage.open(run)
    at = at or Stop(-1, "")
    channel = StoppingChannel(storage, attempt, at)
    try:
        with reaching(at):
            run_here(
                plan, load_job(plan), store, run, attempt=attempt, resume=resume, channel=channel
            )
    except AxisError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        channel.flush()
    return "finished"
