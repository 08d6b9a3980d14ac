"""How is a plan submitted? Everything that can be refused is refused before anything is sent."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.coordinator.placement import choose_gang
from orchestrator.errors import AxisError, PlanError, Problem, RunHeld
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.wording import counted
from orchestrator.plan.load import LoadedPlan
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.runtime.admission import lasting_problems
from orchestrator.runtime.submit.package import Package, check_size, missing, pack
from orchestrator.runtime.submit.reach import Api
from orchestrator.runtime.submit.submission import (
    Job,
    entrypoint,
    environment_of,
    jobs_of_run,
    metadata_of,
    next_attempt,
    submission_id,
)
from orchestrator.storage import Storage, redact_uri

_STORAGE_SECONDS = 3.0


@dataclass(frozen=True)
class Errand:
    """What is to be submitted: a plan's file, inside the working directory that is sent."""

    loaded: LoadedPlan
    plan_file: Path
    working_directory: Path
    overrides: Sequence[str] = ()
    options: Sequence[str] = ()

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.loaded.plan


def prepared(errand: Errand) -> Package:
    """The package, once nothing is found in it or in the plan that could not be meant.

    Raises ``PlanError`` and ``InfeasibleError``; needs no cluster.
    """
    root, file = errand.working_directory.resolve(), errand.plan_file.resolve()
    if not file.is_relative_to(root):
        raise PlanError([_outside(errand.plan_file, root)], errand.loaded.source)
    package = pack(root, always=[file])
    problems = [*lasting_problems(errand.plan), *missing(errand.plan, package)]
    if problems:
        located = [errand.loaded.locate(problem) for problem in problems]
        raise PlanError(located, errand.loaded.source)
    return package


def submit(errand: Errand, package: Package, api: Api, say: Callable[[str], None]) -> Job:
    """Check the plan against the cluster, and start it there; returns at once.

    Raises ``InfeasibleError`` where the cluster can never hold the plan, and ``RunHeld`` where it
    carries the run out already.
    """
    # Only now: Ray takes a second or two to import.
    from orchestrator.runtime.internals.jobs import PACKAGE_LIMIT_BYTES
    from orchestrator.runtime.submit.client import Jobs

    check_size(package, PACKAGE_LIMIT_BYTES)
    jobs, plan = Jobs(api), errand.plan
    nodes = jobs.nodes()
    choose_gang(plan, nodes, legal_workers(plan))
    size = counted(len(nodes), "node")
    say(f"cluster: {api.url}, Ray {api.ray_version}, {size}; the plan fits")
    earlier = jobs_of_run(jobs.all(), plan.name)
    _check_free(earlier, api)
    name = submission_id(plan.name, next_attempt(earlier, attempts_on(plan.storage, plan.name)))
    say(f"package: {package.text} of {package.root}")
    relative = errand.plan_file.resolve().relative_to(package.root).as_posix()
    with tempfile.TemporaryDirectory(prefix="axis-package-") as folder:
        target = Path(folder) / "working_dir.zip"
        package.write(target)
        jobs.submit(
            name,
            entrypoint(relative, errand.overrides, errand.options),
            target,
            metadata_of(plan.name, redact_uri(plan.storage)),
            environment_of(plan.coordination.stop_timeout, api.url),
        )
    return jobs.one(name)


def attempts_on(storage: str, run: str) -> int:
    """The last attempt in the run's journal, as far as it is seen from here: 0 where the storage is
    not reached within 3 s, for only the cluster need reach it."""
    found: list[int] = []

    def look() -> None:
        try:
            base = Storage.open(storage)
            if base.exists(run):
                found.append(replay_state(Journal(base.child(run))).attempt)
        except AxisError:
            return  # the run itself will say it, with the reason

    thread = threading.Thread(target=look, name="axis-storage", daemon=True)
    thread.start()
    thread.join(_STORAGE_SECONDS)
    return max(found, default=0)


def _check_free(earlier: Sequence[Job], api: Api) -> None:
    live = [job for job in earlier if job.live]
    if live:
        job = live[-1]
        raise RunHeld(
            f"{job.run} is {job.status.lower()} on this cluster already, as {job.submission_id}\n"
            f"  works: axis logs {job.submission_id} --address {api.url} -f to watch it, "
            f"axis stop {job.submission_id} --address {api.url} to end it"
        )


def _outside(file: Path, root: Path) -> Problem:
    return Problem(
        "plan file",
        f"{file} lies outside the working directory {root}, which is all that is sent",
        works="to submit from the folder that holds the plan and the Job, or --working-dir",
    )
