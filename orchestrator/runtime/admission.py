"""May this plan be run here and now? Asked while there is no cluster to be taken down.

Looks at the Job, the source, the storage, the port, at who holds the run, and whether it would
go on computing what it began. A refusal says what would work, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.coordinator.state import RunState
from orchestrator.errors import (
    DamagedError,
    InfeasibleError,
    JobError,
    PlanError,
    Problem,
    ResumeRefused,
    StorageError,
)
from orchestrator.feed.pieces import Piece, list_pieces
from orchestrator.job import Job
from orchestrator.job_import import import_target, load_job_for_mesh
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.lease import LEASE_FILE, RunLease
from orchestrator.observe.runs import set_aside
from orchestrator.observe.wording import counted
from orchestrator.plan.data import PythonSource
from orchestrator.plan.dump import PLAN_FILE
from orchestrator.plan.load import LoadedPlan, parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.plan.resume import resume_changes
from orchestrator.runtime.ports import port_problem
from orchestrator.runtime.resuming import check_newest
from orchestrator.storage import Storage
from orchestrator.storage.uri import is_uri

_PACKAGES = "working_dir_files"
"""The folder of a node in which Ray unpacks the working directories of jobs."""


def lasting_problems(plan: Plan) -> list[Problem]:
    """A storage that is lost with the copy of the working directory that a cluster makes. What a
    reference stands for there is not known here."""
    is_elsewhere = is_uri(plan.storage) or plan.storage.startswith("${")
    if is_elsewhere or Path(plan.storage).expanduser().is_absolute():
        return []
    return [
        Problem(
            "storage",
            f"{plan.storage} is relative to the working directory, and on the cluster that is a "
            "temporary copy on one node: nothing in it would outlive the job",
            works="a folder that all nodes share, such as /mnt/shared/runs, or s3://bucket/runs",
        )
    ]


def check_lasting(loaded: LoadedPlan, directory: Path) -> None:
    """Raise ``PlanError`` for a relative storage inside the copy that ``ray job submit`` makes."""
    if _PACKAGES not in directory.parts:
        return
    problems = [loaded.locate(problem) for problem in lasting_problems(loaded.plan)]
    if problems:
        raise PlanError(problems, loaded.source)


@contextmanager
def writable_storage(loaded: LoadedPlan) -> Iterator[Storage]:
    """The plan's storage. Raises ``PlanError`` when it cannot be written to.

    A folder that did not exist before and is empty afterwards is removed again.
    """
    try:
        base = Storage.open(loaded.plan.storage)
        is_new = not base.exists()
        base.check_writable()
    except StorageError as error:
        problem = Problem("storage", str(error), works="a folder or URI that can be written to")
        raise PlanError([loaded.locate(problem)], loaded.source) from error
    try:
        yield base
    finally:
        if is_new:
            _remove_empty(base)


@contextmanager
def held_run(
    loaded: LoadedPlan,
    job: Job,
    base: Storage,
    private: bool,
    fresh: bool,
    say: Callable[[str], None],
) -> Iterator[RunLease]:
    """The run's lease, taken before anything of it is moved or written.

    Raises ``RunHeld``, ``InfeasibleError`` for a port in use on a ``private`` cluster,
    ``ResumeRefused`` for a plan that computes something else and for a checkpoint of another model
    or of a newer format, ``DamagedError`` for a journal that cannot be read; all of it before
    ``fresh`` moves the earlier run aside. Of a run that did not begin inside the block nothing
    stays.
    """
    plan = loaded.plan
    run = base.child(plan.name)
    lease = RunLease.acquire(run, plan.name)
    try:
        if private:
            _check_port(loaded)
        if not fresh:
            _check_resume(loaded, run, say)
            _check_checkpoint(loaded, run, _journal_state(run, plan.name), job)
        elif (aside := set_aside(base, plan.name, lease)) is not None:
            lease.release()
            lease = RunLease.acquire(run, plan.name)
            say(f"--fresh: the earlier run was moved aside to {base.name}/{aside}")
        yield lease
    finally:
        _forget_unbegun(run)
        lease.release()


def _forget_unbegun(run: Storage) -> None:
    """Remove the folder of a run that holds nothing but its lease, which the caller has.

    Elsewhere than on a file system there are no folders, and releasing removes the lease.
    """
    if run.is_local and [entry.path for entry in run.list()] == [LEASE_FILE]:
        run.delete(LEASE_FILE)
        _remove_empty(run)


def _remove_empty(folder: Storage) -> None:
    if folder.is_local:
        with suppress(OSError):  # something is in it
            folder.local_path().rmdir()


def _check_port(loaded: LoadedPlan) -> None:
    """On a private cluster the address must be free; elsewhere Serve may listen there already."""
    inference = loaded.plan.inference
    problem = port_problem(inference.host, inference.port) if inference else None
    if problem is not None:
        raise InfeasibleError(loaded.locate(problem).render())


def _check_resume(loaded: LoadedPlan, run: Storage, say: Callable[[str], None]) -> None:
    """Refuse a plan that would make an existing run compute something else."""
    if not run.exists(PLAN_FILE):
        return
    try:
        old = parse_plan(
            run.read_bytes(PLAN_FILE).decode(errors="replace"), source=f"{run.uri}/{PLAN_FILE}"
        ).plan
    except PlanError as error:
        raise ResumeRefused(
            [
                Problem(
                    "name",
                    f"the plan that the run {loaded.plan.name} began with cannot be read: {error}",
                    works="--fresh moves the run aside and starts anew, or another name",
                )
            ],
            loaded.source,
        ) from error
    verdict = resume_changes(old, loaded.plan)
    if verdict.problems:
        problems = [loaded.locate(problem) for problem in verdict.problems]
        raise ResumeRefused(problems, loaded.source)
    for note in verdict.notes:
        say(f"resume: {note}")


def _journal_state(run: Storage, name: str) -> RunState:
    """Raise ``DamagedError`` where the run's past cannot be read: nothing can be built on it."""
    try:
        return replay_state(Journal(run))
    except DamagedError as error:
        raise DamagedError(
            f"the run {name} in {run.name} cannot be resumed: {error}\n"
            "  works: --fresh moves it aside and starts anew, or another name"
        ) from error


def _check_checkpoint(loaded: LoadedPlan, run: Storage, state: RunState, job: Job) -> None:
    """Refuse a checkpoint that is not of this plan's model, or that only a newer version reads."""
    try:
        check_newest(run, state, job)
    except ResumeRefused as error:
        problems = [loaded.locate(problem) for problem in error.problems]
        raise ResumeRefused(problems, loaded.source) from error


def check_inputs(loaded: LoadedPlan) -> Job:
    """The plan's Job.

    Raises ``JobError`` or ``PlanError`` for a Job that is not there or cannot be cut as the mesh
    asks, or a source that is not there or is empty.
    """
    source = loaded.plan.data.source
    job = load_job_for_mesh(loaded)
    try:
        if isinstance(source, PythonSource):
            import_target(source.target, "data.source.target")
        else:
            _check_content(list_pieces(source, Path.cwd()))
    except JobError as error:
        problem = loaded.locate(error.problems[0])
        raise JobError(problem, error.user_traceback, loaded.source) from error
    except PlanError as error:
        problems = [loaded.locate(problem) for problem in error.problems]
        raise PlanError(problems, loaded.source) from error
    return job


def _check_content(pieces: Sequence[Piece]) -> None:
    """Files that hold no byte at all need not be read to know that there are no samples."""
    if any(piece.size_bytes for piece in pieces):
        return
    found = counted(len(pieces), "file")
    raise PlanError(
        [
            Problem(
                "data.source",
                "empty corpus: there is nothing in the files that match",
                arithmetic=f"{found} of 0 bytes, such as {pieces[0].path}",
                works="a path and glob of files with content",
            )
        ]
    )
