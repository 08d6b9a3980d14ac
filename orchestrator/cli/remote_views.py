"""``axis status``, ``logs`` and ``stop`` with ``--address``: a run on a cluster, seen from a
workstation that need not reach its storage.

What the Jobs API knows: the submission, how it stands, and what its driver printed.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.submit_command import Teller, follow_to_the_end
from orchestrator.errors import DeadlineExceeded, InfeasibleError, PlanError, Problem
from orchestrator.observe.holder import ago
from orchestrator.plan.load import load_plan
from orchestrator.plan.quantities import parse_deadline
from orchestrator.plan.refusal import Refusal

if TYPE_CHECKING:
    from orchestrator.runtime.submit.client import Jobs
    from orchestrator.runtime.submit.submission import Job

_POLL_SECONDS = 0.5


def show_remote_status(name: str, address: str, as_json: bool) -> None:
    """Print where a submitted run stands."""
    jobs, job = _find(name, address)
    fields = _view(job, jobs.logs(job.submission_id))
    typer.echo(json.dumps(fields) if as_json else _text(fields))


def show_remote_logs(
    name: str,
    address: str,
    attempt: int | None,
    worker: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print what the driver of a submitted run printed."""
    if worker is not None:
        problem = Problem(
            "--worker",
            "workers log into the run's folder, which the Jobs API does not give away",
            works="--storage instead of --address, where this machine reaches the storage",
        )
        raise PlanError([problem], "command line")
    jobs, job = _find(name, address, attempt)
    teller = Teller(as_json)
    if follow:
        raise typer.Exit(follow_to_the_end(jobs, job, teller))
    teller.show(jobs.logs(job.submission_id))


def stop_remote(name: str, address: str, timeout: str, as_json: bool) -> None:
    """Ask a submitted run to stop, and wait until it has.

    Raises ``DeadlineExceeded`` when it is still going after ``timeout``.
    """
    try:
        timeout_seconds = parse_deadline(timeout)
    except Refusal as refusal:
        raise PlanError([refusal.problem("--timeout")], "command line") from refusal
    jobs, job = _find(name, address)
    was_live = job.live
    if was_live:
        jobs.stop(job.submission_id)
        job = _await_end(jobs, job, timeout_seconds)
    fields = _view(job, jobs.logs(job.submission_id))
    if as_json:
        typer.echo(json.dumps(fields))
    elif was_live:
        typer.echo(f"{job.submission_id}: {fields['message']} (exit code {fields['exit_code']})")
    else:
        typer.echo(f"{job.submission_id}: nothing to stop, it is {fields['status']}")


def _find(name: str, address: str, attempt: int | None = None) -> tuple[Jobs, Job]:
    """The newest submission of the run that ``name`` means: its name, its plan file, or an id."""
    from orchestrator.runtime.submit.reach import reach

    run = load_plan(name).plan.name if Path(name).suffix in {".yaml", ".yml"} else name
    api = reach(address)
    from orchestrator.runtime.submit.client import Jobs
    from orchestrator.runtime.submit.submission import jobs_of_run

    jobs = Jobs(api)
    known = jobs.all()
    found = jobs_of_run(known, run)
    if attempt is not None:
        found = [job for job in found if job.attempt == attempt]
    if found:
        return jobs, found[-1]
    names = sorted({job.run for job in known if job.run})
    raise InfeasibleError(
        f"the cluster at {api.url} knows no submission of {run}"
        + (f" with attempt {attempt}" if attempt is not None else "")
        + (f"\n  it knows: {', '.join(names)}" if names else "\n  nothing was submitted to it yet")
    )


def _view(job: Job, log: str) -> dict[str, Any]:
    from orchestrator.runtime.submit.submission import DIRECTORY_KEY, last_line, outcome_of

    outcome = None if job.live else outcome_of(job, log)
    return {
        "run": job.run,
        "submission_id": job.submission_id,
        "attempt": job.attempt,
        "status": job.status.lower() if outcome is None else _word(outcome.exit_code),
        "exit_code": outcome.exit_code if outcome else None,
        "message": outcome.text if outcome else "",
        "last_line": last_line(log),
        "started_at_seconds": job.started_at_seconds,
        "ended_at_seconds": job.ended_at_seconds,
        "live": job.live,
        "run_directory": job.metadata.get(DIRECTORY_KEY, ""),
    }


def _word(exit_code: int) -> str:
    """The word that ``axis status`` has for it."""
    words = {0: "done", 5: "interrupted", 6: "interrupted", 7: "gate not met", 130: "interrupted"}
    return words.get(exit_code, "failed")


def _text(fields: dict[str, Any]) -> str:
    lines = [f"{fields['run']}: {fields['status']}"]
    code = "" if fields["exit_code"] is None else f" (exit code {fields['exit_code']})"
    rows = [
        ("submitted", f"as {fields['submission_id']}, {_when(fields['started_at_seconds'])}"),
        ("ended", _when(fields["ended_at_seconds"]) if fields["ended_at_seconds"] else ""),
        ("came to", f"{fields['message']}{code}" if fields["message"] else ""),
        ("printed", fields["last_line"] if fields["live"] else ""),
        ("lies in", fields["run_directory"]),
    ]
    lines += [f"  {name:<10}  {text}" for name, text in rows if text]
    return "\n".join(lines)


def _when(at_seconds: float) -> str:
    age = ago(time.time() - at_seconds)
    clock = datetime.fromtimestamp(at_seconds).strftime("%Y-%m-%d %H:%M:%S")
    return f"{clock} ({age} ago)" if age else clock


def _await_end(jobs: Jobs, job: Job, timeout_seconds: float) -> Job:
    deadline = time.monotonic() + timeout_seconds
    while True:
        now = jobs.one(job.submission_id)
        if not now.live:
            return now
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"{job.submission_id} was asked to stop, but is still {now.status.lower()} after "
                f"{timeout_seconds:g} s"
            )
        time.sleep(_POLL_SECONDS)
