"""Reports of a group are collected for a moment, then one loss is told."""

from __future__ import annotations

import pytest

from orchestrator.parallel.channel import StuckReport
from orchestrator.runtime import hangs
from orchestrator.runtime.hangs import Hangs

pytestmark = pytest.mark.unit


def report(rank: int, waiting: bool = True) -> StuckReport:
    return StuckReport(
        rank=rank, pid=100 + rank, what="step 7", phase="forward and backward",
        where="at job.py:3 in loss", seconds=5.0, progress=4, micro_batches=0, waiting=waiting,
        stack="File job.py, line 3",
    )  # fmt: skip


class Timers:
    """Timers that are run by hand."""

    def __init__(self) -> None:
        self.started: list[float] = []

    def __call__(self, seconds: float, then: object) -> Timers:
        self.started.append(seconds)
        return self

    daemon = False

    def start(self) -> None:
        """Nothing runs by itself."""


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Who was looked at from outside."""
    found: list[tuple[str, int]] = []

    def ask(node: str, pid: int, timeout_seconds: float) -> str:
        found.append((node, pid))
        return "from outside"

    monkeypatch.setattr(hangs.frozen, "ask", ask)
    return found


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    found = Timers()
    monkeypatch.setattr(hangs.threading, "Timer", found)
    return found


def test_the_first_report_of_an_attempt_starts_one_timer(timers: Timers) -> None:
    collected = Hangs()
    assert not collected.asked(1)
    for rank in (0, 1, 0):
        collected.hear(1, report(rank), "n", lambda: None)
    assert timers.started == [hangs.GRACE_SECONDS]
    assert collected.asked(1)
    assert not collected.asked(2)
    collected.hear(2, report(1), "n", lambda: None)
    assert len(timers.started) == 2
    assert collected.verdict(2, 1 + 1).rank == 0, "what attempt 1 said is forgotten"


def test_one_that_is_told_again_is_given_up_anew(
    timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time its journal could not be written, say."""
    collected = Hangs()
    clock = iter([0.0 + 100, 101.0, 200.0])
    monkeypatch.setattr(hangs.time, "monotonic", lambda: next(clock))
    for _ in range(3):
        collected.hear(1, report(0), "n", lambda: None)
    assert len(timers.started) == 2


def test_the_loss_names_process_and_stack(timers: Timers) -> None:
    collected = Hangs()
    collected.seat(3, [{"kind": "worker", "rank": 1, "pid": 55, "node": "abc"}, {"kind": "step"}])
    collected.hear(3, report(0), "here", lambda: None)
    silent = collected.verdict(3, 2)
    assert (silent.cause, silent.rank, silent.pid, silent.node) == ("hang", 1, 55, "abc")
    collected.hear(3, report(1, waiting=False), "there", lambda: None)
    slow = collected.verdict(3, 2)
    assert (slow.attempt, slow.rank, slow.pid, slow.node) == (3, 1, 101, "there")
    assert slow.user_traceback == "File job.py, line 3"
    collected.seat(4, [])
    collected.hear(4, report(0), "here", lambda: None)
    assert collected.verdict(4, 2).pid is None, "seats of attempt 3 say nothing of attempt 4"


def test_only_one_that_says_nothing_is_looked_at(
    timers: Timers, looked_at: list[tuple[str, int]]
) -> None:
    collected = Hangs()
    collected.seat(1, [{"kind": "worker", "rank": 1, "pid": 55, "node": "abc"}])
    collected.hear(1, report(0), "here", lambda: None)
    collected.examine(1, 2)
    assert looked_at == [("abc", 55)]
    assert collected.verdict(1, 2).user_traceback == "from outside"
    collected.hear(1, report(1), "there", lambda: None)
    collected.examine(1, 2)
    collected.examine(1, 3)
    assert looked_at == [("abc", 55)], "all have spoken; where the third is, nobody knows"
