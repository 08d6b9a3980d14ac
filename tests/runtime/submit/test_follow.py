"""A job's output is shown once and whole, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from orchestrator.errors import DeadlineExceeded, InfeasibleError
from orchestrator.runtime.submit import follow
from orchestrator.runtime.submit.follow import Follower
from orchestrator.runtime.submit.submission import Job

pytestmark = pytest.mark.unit


TEXT = "one\ntwo\nthree\nlast\n"


class ScriptedJobs:
    """A Jobs API on which a job prints ``TEXT``, a line at a time. Each connection ends after so
    many lines, with an error or without one; with the last of them the job is over."""

    api = SimpleNamespace(url="http://head:8265")

    def __init__(self, *connections: tuple[int, BaseException | None]) -> None:
        self._left = list(connections)

    async def tail(self, _id: str) -> AsyncIterator[str]:
        num_lines, error = self._left.pop(0) if self._left else (0, None)
        for line in TEXT.splitlines(keepends=True)[:num_lines]:
            await asyncio.sleep(0)
            yield line
        if error is not None:
            raise error

    def one(self, submission_id: str) -> Job:
        status = "RUNNING" if self._left else "SUCCEEDED"
        return Job(submission_id, "digits", status, 0, "", {}, 1.0, None)

    def logs(self, _id: str) -> str:
        return TEXT


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_AGAIN_SECONDS", 0.01)


def _follow(jobs: Any) -> tuple[str, Job]:
    shown: list[str] = []
    ended = Follower(jobs, "axis-digits-0001", shown.append).to_the_end()
    return "".join(shown), ended


@pytest.mark.parametrize(
    "broken", [aiohttp.ClientError("gone"), RuntimeError("closed"), OSError("reset"), None]
)
def test_what_was_shown_is_not_shown_again(broken: BaseException | None) -> None:
    jobs = ScriptedJobs((2, broken), (1, broken), (3, broken), (0, None))
    shown, ended = _follow(jobs)
    assert shown == TEXT
    assert not ended.live


def test_a_cluster_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(ScriptedJobs):
        def one(self, submission_id: str) -> Job:
            raise InfeasibleError("no answer")

    monkeypatch.setattr(follow, "LOST_SECONDS", 0.1)
    jobs = Away(*([(0, aiohttp.ClientError("gone"))] * 1000))
    with pytest.raises(DeadlineExceeded, match="axis status axis-digits-0001 --address http"):
        _follow(jobs)


def test_a_job_may_be_silent_while_its_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_QUIET_SECONDS", 0.02)
    monkeypatch.setattr(follow, "LOST_SECONDS", 0.1)
    asked = []

    class Silent(ScriptedJobs):
        async def tail(self, _id: str) -> AsyncIterator[str]:
            await asyncio.sleep(0.3)
            yield "at last\n"

        def one(self, submission_id: str) -> Job:
            asked.append(submission_id)
            return super().one(submission_id)

        def logs(self, _id: str) -> str:
            return "at last\n"

    shown, _ = _follow(Silent())
    assert shown == "at last\n"
    assert len(asked) > 3
