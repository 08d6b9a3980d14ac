"""How is a checkpoint taken while training goes on?

The step waits for a copy of this rank's share of the state into host memory. A thread does the
rest, with a process group of its own: writing, hashing, and having the checkpoint committed. At
most one is under way. What goes wrong there is raised on all workers together: by ``finish``,
which all of them call after the same step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from orchestrator.errors import AxisError, DeadlineExceeded, StorageError
from orchestrator.parallel.channel import Channel
from orchestrator.parallel.checkpoint import share_of, state_of, write_pieces
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.parallel.parts import Parts
from orchestrator.parallel.pieces import Holding, Piece, holdings_of, pieces_of
from orchestrator.parallel.saving_exchange import Exchange, open_exchange
from orchestrator.parallel.staging import Staging, needed_bytes
from orchestrator.parallel.upkeep import discard
from orchestrator.parallel.world import World
from orchestrator.storage import Storage

SAVE_TIMEOUT_SECONDS = 1800.0
"""How long a checkpoint may take to be written and committed, and workers wait for one another
meanwhile."""

CLOSE_TIMEOUT_SECONDS = 60.0
"""How long a worker that leaves because something failed waits for a checkpoint under way, which
the next attempt can then begin with."""


@dataclass(frozen=True)
class Share:
    """What this rank holds, and which of it this rank writes."""

    holdings: tuple[Holding, ...]
    names: frozenset[str]

    def of(self, pieces: Mapping[str, Piece]) -> dict[str, Piece]:
        """The pieces that this rank writes, in order of name."""
        return {name: pieces[name] for name in sorted(self.names)}


class Saver:
    """Takes checkpoints of one rank's ``parts`` and ``optimizer`` into the folder ``run``.

    All workers make one together, and call its methods after the same steps. With
    ``asynchronous`` false, ``begin`` returns when the checkpoint exists.
    """

    def __init__(
        self,
        run: Storage,
        parts: Parts,
        optimizer: torch.optim.Optimizer,
        world: World,
        channel: Channel,
        *,
        asynchronous: bool = True,
        timeout_seconds: float = SAVE_TIMEOUT_SECONDS,
    ) -> None:
        self.run, self.parts, self.optimizer, self.channel = run, parts, optimizer, channel
        self.asynchronous, self.timeout_seconds = asynchronous, timeout_seconds
        self.exchange: Exchange = open_exchange(world, timeout_seconds)
        self.staging = Staging(world.device)
        self.share: Share | None = None
        self.saved: CheckpointManifest | None = None
        """The newest checkpoint that ``finish`` has seen committed."""
        self._draft: CheckpointManifest | None = None
        self._written: CheckpointManifest | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._warming: threading.Thread | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint under way has failed, as far as this worker knows by now.

        Not all workers learn it after the same step, so they must tell one another before they
        call ``finish``.
        """
        return self._error is not None

    @property
    def committed(self) -> CheckpointManifest | None:
        """The newest checkpoint that exists, as far as this worker knows by now."""
        return self._written or self.saved

    def prepare(self) -> None:
        """Deal out who writes what, and get the memory for it in the background.

        To be called when the optimizer has its state; ``begin`` does it otherwise, and waits.
        """
        self._deal(pieces_of(state_of(self.parts, self.optimizer)))

    def begin(self, draft: CheckpointManifest) -> None:
        """Take a checkpoint of the state as it is now; ``draft`` lacks files, tensors and times.

        Waits for the one before, if that is still under way, and raises what went wrong with
        it. Afterwards parameters and state may change again.
        """
        begun = time.perf_counter()
        self.finish()
        pieces = pieces_of(state_of(self.parts, self.optimizer))
        mine = self._deal(pieces).of(pieces)
        if self.asynchronous:
            mine = self._staged(mine)
        stalled = replace(draft, stall_seconds=time.perf_counter() - begun)
        self._draft, self._written = draft, None
        arguments = (stalled, mine, begun)
        self._thread = threading.Thread(
            target=self._work, args=arguments, name="axis-checkpoint", daemon=True
        )
        self._thread.start()
        if not self.asynchronous:
            self.finish()

    def finish(self, timeout_seconds: float | None = None) -> CheckpointManifest | None:
        """Wait until the checkpoint under way exists; returns the newest one that does.

        Raises ``DeadlineExceeded`` when that takes longer than ``timeout_seconds``, and on all
        workers what went wrong with it: ``StorageError``, or what the channel refused it with.
        """
        if self._thread is None:
            return self.saved
        limit_seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        self._thread.join(limit_seconds)
        if self._thread.is_alive():
            where = self._draft.folder if self._draft else "a checkpoint"
            raise DeadlineExceeded(
                f"{where} was not written and committed within {limit_seconds:g} s; the one "
                "before it stays the newest"
            )
        error, self._error, self._thread = self._error, None, None
        if error is not None:
            raise error
        self.saved = self._written
        return self.saved

    def close(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Let a checkpoint under way come to its end, if it does so soon, and give memory back.

        Raises nothing: whoever leaves in order has called ``finish`` before.
        """
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                return  # it still reads the memory
        if self._warming is not None:
            self._warming.join()
        self.staging.release()

    def _deal(self, pieces: Mapping[str, Piece]) -> Share:
        """The same share each time, as long as the tensors are the same."""
        holdings = holdings_of(pieces)
        if self.share is None or self.share.holdings != holdings:
            self.share = Share(holdings, share_of(pieces, self.exchange))
            self._warm(needed_bytes(self.share.of(pieces)))
        return self.share

    def _staged(self, pieces: dict[str, Piece]) -> dict[str, Piece]:
        if self._warming is not None:
            self._warming.join()  # touches memory, and waits for nobody
            self._warming = None
        return self.staging.copy(pieces)

    def _warm(self, size_bytes: int) -> None:
        if self.asynchronous:
            self._warming = threading.Thread(
                target=self.staging.reserve, args=(size_bytes,), name="axis-staging", daemon=True
            )
            self._warming.start()

    def _work(self, draft: CheckpointManifest, pieces: dict[str, Piece], begun: float) -> None:
        try:
            self._written = self._write(draft, pieces, begun)
        except BaseException as error:
            self._error = error

    def _write(
        self, draft: CheckpointManifest, pieces: dict[str, Piece], begun: float
    ) -> CheckpointManifest:
        """Write, exchange and commit; each stage ends alike on all workers."""
        _raise_any(self.exchange.gather(self._send_held_back()))
        try:
            files, tensors = write_pieces(self.run.child(draft.folder), pieces, self.exchange)
        except BaseException:
            # All workers have ended writing. Whether a commit that failed has come through is
            # not always known, so later than here nothing is thrown away.
            if self.exchange.is_first:
                with suppress(StorageError):
                    discard(self.run, draft.folder)
            raise
        seconds = time.perf_counter() - begun
        stall_seconds = draft.stall_seconds if self.asynchronous else seconds
        manifest = replace(
            draft, files=files, tensors=tensors, seconds=seconds, stall_seconds=stall_seconds
        )
        refusal = self._commit(manifest) if self.exchange.is_first else None
        _raise_any([self.exchange.from_first(refusal)])
        return manifest

    def _send_held_back(self) -> AxisError | None:
        try:
            self.channel.saving()
        except Exception as error:
            return self._tellable(error)
        return None

    def _commit(self, manifest: CheckpointManifest) -> AxisError | None:
        """Refusals are told to the other workers instead of leaving them waiting."""
        try:
            self.channel.commit(manifest)
        except Exception as error:
            return self._tellable(error)
        return None

    def _tellable(self, error: Exception) -> AxisError:
        """An error that can be sent to other workers, whatever it holds."""
        if isinstance(error, AxisError):
            return error
        return StorageError(f"worker {self.exchange.rank}: {type(error).__name__}: {error}")


def _raise_any(errors: list[AxisError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
