"""What is a submission: its id, its command, what it tells of itself, and what became of it?

Plain values; talks to nobody.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import __version__
from orchestrator.errors import EXIT_CODES
from orchestrator.observe.wording import shortened

PREFIX = "axis-"
RUN_KEY = "axis_run"
STORAGE_KEY = "axis_storage"
DIRECTORY_KEY = "axis_run_directory"
VERSION_KEY = "axis_version"

SUBMITTED_TO = "AXIS_SUBMITTED_TO"
"""The variable that tells a run under which address it was submitted, for what it advises."""

STOP_MARGIN_SECONDS = 60
"""What a driver may need beside its last checkpoint until it has ended."""

_NOT_FOUND = 127
"""What a shell answers where there is no such command."""
_VERDICT = re.compile(r"^(?P<name>[-a-z0-9]+): .*?\(exit code (?P<code>\d+)\)")
_ID = re.compile(r"^" + PREFIX + r"(?P<run>[-a-z0-9]+)-(?P<attempt>\d{4,})$")


@dataclass(frozen=True)
class Job:
    """A job as the Jobs API tells of it; ``exit_code`` is its driver's, where it said one."""

    submission_id: str
    run: str
    status: str
    exit_code: int | None
    message: str
    metadata: Mapping[str, str]
    started_at_seconds: float
    ended_at_seconds: float | None

    @property
    def live(self) -> bool:
        """Whether it is not over."""
        return self.status in ("PENDING", "RUNNING")

    @property
    def attempt(self) -> int:
        """The attempt that its id names; 0 for an id of another kind."""
        found = _ID.match(self.submission_id)
        return int(found["attempt"]) if found else 0


@dataclass(frozen=True)
class Outcome:
    """What a run that was submitted came to."""

    exit_code: int
    text: str


def job_of(details: Any) -> Job | None:
    """A job out of Ray's ``JobDetails``; ``None`` for a driver that was not submitted."""
    if not details.submission_id:
        return None
    metadata = {str(key): str(value) for key, value in (details.metadata or {}).items()}
    return Job(
        submission_id=str(details.submission_id),
        run=metadata.get(RUN_KEY, ""),
        status=str(getattr(details.status, "value", details.status)),
        exit_code=details.driver_exit_code,
        message=str(details.message or ""),
        metadata=metadata,
        started_at_seconds=(details.start_time or 0) / 1e3,
        ended_at_seconds=details.end_time / 1e3 if details.end_time else None,
    )


def jobs_of_run(jobs: Iterable[Job], run: str) -> list[Job]:
    """The submissions of a run, the oldest first."""
    found = [job for job in jobs if job.run == run or job.submission_id == run]
    return sorted(found, key=lambda job: (job.started_at_seconds, job.attempt))


def next_attempt(jobs: Sequence[Job], attempts_on_storage: int) -> int:
    """The number of the attempt that is about to be made, as far as can be told from here."""
    return 1 + max([attempts_on_storage, *(job.attempt for job in jobs)])


def submission_id(run: str, attempt: int) -> str:
    """``axis-gpt-stdlib-0002``; Ray refuses one that was used before, so two who submit the same
    attempt at the same time get one job."""
    return f"{PREFIX}{run}-{attempt:04d}"


def entrypoint(plan: str, overrides: Sequence[str], options: Sequence[str]) -> str:
    """What the cluster is to run, as its shell takes it; the cluster names its own address."""
    return shlex.join(["axis", "run", plan, *overrides, *options])


def metadata_of(run: str, storage: str) -> dict[str, str]:
    """What the dashboard's page of the job shows; ``storage`` is without credentials."""
    return {
        RUN_KEY: run,
        STORAGE_KEY: storage,
        DIRECTORY_KEY: f"{storage.rstrip('/')}/{run}",
        VERSION_KEY: __version__,
    }


def environment_of(stop_timeout_seconds: float, url: str) -> dict[str, str]:
    """The environment of the job. Ray kills a driver 3 s after it asked it to stop, unless told
    otherwise: too soon for a last checkpoint."""
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": str(round(stop_timeout_seconds) + STOP_MARGIN_SECONDS),
        SUBMITTED_TO: url,
    }


def outcome_of(job: Job, log_tail: str) -> Outcome:
    """The run's own exit code. A job that was stopped has none in Ray's books, but the last words
    of its run say it."""
    if job.exit_code is not None:
        return Outcome(_documented(job.exit_code), _meaning(job.exit_code, job))
    code = said_exit_code(job.run, log_tail)
    if code is not None:
        return Outcome(code, _meaning(code, job))
    if job.status == "SUCCEEDED":
        return Outcome(0, EXIT_CODES[0])
    if job.status == "STOPPED":
        text = "stopped before it could say what came of it; the same command resumes"
        return Outcome(6, text)
    return Outcome(1, first_words(job.message) or "the job failed without a word")


def said_exit_code(run: str, log: str) -> int | None:
    """The exit code in the summary with which a run ends its output."""
    for line in reversed(log.splitlines()):
        found = _VERDICT.match(line)
        if found and found["name"] == run:
            return int(found["code"])
    return None


def last_line(log: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return shortened(lines[-1]) if lines else ""


def first_words(message: str) -> str:
    """A message of Ray's without the log that it quotes."""
    return shortened(message.strip().partition("\n")[0])


def _documented(code: int) -> int:
    if code == _NOT_FOUND:
        return 3
    return code if code in EXIT_CODES else 1


def _meaning(code: int, job: Job) -> str:
    if code == _NOT_FOUND:
        return (
            "the cluster has no `axis` command: install axis-orchestrator in its image, at version "
            f"{job.metadata.get(VERSION_KEY, __version__)}"
        )
    if code < 0:
        return f"the driver was ended by signal {-code}"
    return EXIT_CODES.get(code, f"failed with exit code {code}")
