"""``axis submit``: the plan on a cluster, through Ray's Jobs API, as if it ran here."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.errors import PlanError
from orchestrator.plan.load import LoadedPlan, load_plan
from orchestrator.plan.static_job import check_targets

if TYPE_CHECKING:
    from orchestrator.runtime.submit.client import Jobs
    from orchestrator.runtime.submit.submission import Job


@dataclass(frozen=True)
class SubmitOptions:
    """What the command line says beyond the plan."""

    address: str | None
    working_dir: str
    fresh: bool
    keep_serving: bool
    detach: bool
    as_json: bool


def submit_plan_file(path: str, overrides: list[str], options: SubmitOptions) -> int:
    """Submit the plan, and follow it unless told otherwise; returns the run's exit code.

    Raises ``AxisError`` for a refusal.
    """
    directory = Path(options.working_dir)
    loaded = _load(path, overrides, directory)
    from orchestrator.runtime.submit.reach import reach
    from orchestrator.runtime.submit.submit import Errand, prepared, submit

    flags = {"--fresh": options.fresh, "--keep-serving": options.keep_serving}
    wanted = [flag for flag, is_set in {**flags, "--json": options.as_json}.items() if is_set]
    errand = Errand(loaded, Path(path), directory, overrides, wanted)
    # Its refusals come before anything else that takes time, but after those of the plan.
    package = prepared(errand)
    api = reach(options.address)
    teller = Teller(options.as_json)
    job = submit(errand, package, api, teller.say)
    teller.submitted(job, api.url)
    if options.detach:
        teller.detached(job, api.url)
        return 0
    from orchestrator.runtime.submit.client import Jobs

    return follow_to_the_end(Jobs(api), job, teller)


def follow_to_the_end(jobs: Jobs, job: Job, teller: Teller) -> int:
    """Show what the run prints; Ctrl-C asks what to do. Returns the run's exit code."""
    from orchestrator.runtime.submit.follow import Follower
    from orchestrator.runtime.submit.submission import outcome_of

    follower = Follower(jobs, job.submission_id, teller.show)
    while True:
        try:
            ended = follower.to_the_end()
            break
        except KeyboardInterrupt:
            code = _interrupted(jobs, job, teller)
            if code is not None:
                return code
    outcome = outcome_of(ended, follower.text)
    teller.ended(ended, outcome.exit_code, outcome.text)
    return outcome.exit_code


def _interrupted(jobs: Jobs, job: Job, teller: Teller) -> int | None:
    """What Ctrl-C means: the exit code of who detaches, ``None`` where the run is followed on."""
    if not sys.stdin.isatty():
        teller.detached(job, jobs.api.url)
        return 130
    choice = _ask()
    if choice == "d":
        teller.detached(job, jobs.api.url)
        return 0
    if choice == "s":
        jobs.stop(job.submission_id)
        teller.say("stopping: a last checkpoint is being taken")
    return None


def _ask() -> str:
    """``d``, ``s`` or ``c``; a second Ctrl-C, and the end of input, detach."""
    question = "\n[d]etach and leave it running, [s]top it after a last checkpoint, or [c]ontinue?"
    try:
        while True:
            typer.echo(f"{question} ", err=True, nl=False)
            answer = sys.stdin.readline()
            if not answer or answer.strip()[:1].lower() in ("d", "s", "c"):
                return answer.strip()[:1].lower() or "d"
    except KeyboardInterrupt:
        return "d"


class Teller:
    """Says what happens: the run's own output as it is, ours on standard error; all of it as JSON
    lines on standard output where that is asked for."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._rest = ""

    def say(self, text: str) -> None:
        """One line of ours."""
        self._tell({"kind": "message", "text": text}, text)

    def submitted(self, job: Job, url: str) -> None:
        """The cluster has it."""
        fields = {"kind": "submitted", "submission_id": job.submission_id, "run": job.run}
        place = job.metadata.get("axis_run_directory", "")
        self._tell({**fields, "address": url, "run_directory": place}, _submitted_text(job, place))

    def show(self, text: str) -> None:
        """What the run printed; as JSON, a line that is none is put into one."""
        if not self._as_json:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                typer.echo(line if _is_object(line) else json.dumps({"kind": "log", "line": line}))

    def detached(self, job: Job, url: str) -> None:
        """The run goes on without us."""
        commands = {
            what: shlex.join(["axis", what, job.submission_id, "--address", url, *more])
            for what, more in (("status", ()), ("logs", ("-f",)), ("stop", ()))
        }
        lines = [f"{job.submission_id} goes on without this terminal:"]
        lines += [f"  {command}" for command in commands.values()]
        fields = {"kind": "detached", "submission_id": job.submission_id, "commands": commands}
        self._tell(fields, "\n".join(lines))

    def ended(self, job: Job, exit_code: int, text: str) -> None:
        """The run is over."""
        fields = {"kind": "outcome", "submission_id": job.submission_id, "exit_code": exit_code}
        line = f"{job.submission_id}: {text} (exit code {exit_code})"
        self._tell({**fields, "message": text, "status": job.status}, line)

    def _tell(self, fields: dict[str, Any], text: str) -> None:
        if self._as_json:
            typer.echo(json.dumps(fields))
        else:
            typer.echo(text, err=True)


def _submitted_text(job: Job, place: str) -> str:
    return f"submitted {job.submission_id}; the run lies in {place}"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _load(path: str, overrides: list[str], directory: Path) -> LoadedPlan:
    """The plan, its Job looked up in the working directory that is to be sent."""
    loaded = load_plan(path, overrides)
    problems = check_targets(loaded.plan, directory.resolve())
    if problems:
        raise PlanError([loaded.locate(problem) for problem in problems], loaded.source)
    return loaded
