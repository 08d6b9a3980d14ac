"""What does a job print, until it is over? Followed through lost connections.

A head that restarts, or a tunnel that breaks, ends the connection and not the run: what was shown
is not shown again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from orchestrator.errors import AxisError, DeadlineExceeded
from orchestrator.runtime.submit.client import Jobs
from orchestrator.runtime.submit.submission import Job

LOST_SECONDS = 60.0
"""For so long a cluster that does not answer is asked again."""
_QUIET_SECONDS = 15.0
_AGAIN_SECONDS = 1.0


class Follower:
    """Shows what one job prints. ``text`` is all that it has shown."""

    def __init__(self, jobs: Jobs, submission_id: str, show: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._id = submission_id
        self._show = show
        self._heard_at = time.monotonic()
        self.text = ""

    def to_the_end(self) -> Job:
        """Show everything until the job is over. Raises ``DeadlineExceeded`` when the cluster has
        not answered for a minute."""
        while True:
            try:
                asyncio.run(self._tail())
                job = self._jobs.one(self._id)
                self._heard_at = time.monotonic()
                if not job.live:
                    self._take(self._jobs.logs(self._id))
                    return job
            except (aiohttp.ClientError, AxisError, OSError, RuntimeError) as error:
                self._check_patience(error)
            time.sleep(_AGAIN_SECONDS)

    async def _tail(self) -> None:
        chunks = self._jobs.tail(self._id).__aiter__()
        seen = ""
        while True:
            task = asyncio.ensure_future(chunks.__anext__())
            try:
                await self._until_said(task)
                seen += task.result()
            except StopAsyncIteration:
                return
            finally:
                task.cancel()
            self._take(seen)

    async def _until_said(self, task: asyncio.Future[str]) -> None:
        """A job may be silent for long; its cluster may not."""
        while not task.done():
            await asyncio.wait({task}, timeout=_QUIET_SECONDS)
            if not task.done():
                await asyncio.to_thread(self._jobs.one, self._id)
                self._heard_at = time.monotonic()

    def _take(self, whole: str) -> None:
        """Show what of all that was printed is new."""
        self._heard_at = time.monotonic()
        new = whole[len(self.text) :]
        if new:
            self.text += new
            self._show(new)

    def _check_patience(self, error: BaseException) -> None:
        if time.monotonic() - self._heard_at < LOST_SECONDS:
            return
        url = self._jobs.api.url
        raise DeadlineExceeded(
            f"the cluster at {url} has not answered for {LOST_SECONDS:g} s: {error}\n"
            f"  {self._id} may go on all the same: axis status {self._id} --address {url}"
        ) from error
