"""One attempt of a run that may be ended in the middle, for tests that drive many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from small_runs import MemoryChannel, plan_of, run_here

from orchestrator.errors import DeadlineExceeded
from orchestrator.job_import import load_job
from orchestrator.parallel.channel import StepRecord
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.storage import Storage


class Killed(Exception):
    """The whole group is gone, all at once."""


@dataclass(frozen=True)
class End:
    """How an attempt ends: ``stop`` in order, ``kill`` at once, after the step ``after``;
    ``interrupt`` in the first checkpoint from there on, with its files and without its manifest;
    ``finish`` at the last step."""

    kind: str
    after: int = 0


class EndingChannel(MemoryChannel):
    """Ends the attempt as it is told to."""

    def __init__(self, run: Storage, end: End) -> None:
        super().__init__(run, None)
        self.end = end
        self.reached = 0

    def report(self, record: StepRecord) -> None:
        super().report(record)
        self.reached = record.step
        if self.end.kind == "kill" and record.step >= self.end.after:
            raise Killed

    def stop_requested(self) -> bool:
        return self.end.kind == "stop" and self.reached + 1 >= self.end.after

    def commit(self, manifest: CheckpointManifest) -> None:
        if self.end.kind == "interrupt" and manifest.step >= self.end.after:
            raise DeadlineExceeded("the coordinator is away")
        super().commit(manifest)


def attempt_case(
    text: str,
    overrides: tuple[str, ...],
    store: str,
    run: str,
    resume: str | None,
    attempt: int,
    end: End,
) -> dict[str, Any]:
    """What one rank computed in this attempt, and how it ended."""
    plan = plan_of(text, *overrides)
    channel = EndingChannel(Storage.open(run), end)
    how = "finished"
    try:
        result, _ = run_here(plan, load_job(plan), store, run, attempt=attempt, resume=resume,
                             channel=channel)  # fmt: skip
        how = "stopped" if result.stopped else "finished"
    except Killed:
        how = "killed"
    except DeadlineExceeded:
        how = "interrupted"
    return {"ids": channel.ids(), "losses": channel.losses, "how": how}
