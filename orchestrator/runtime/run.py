"""How does one ``axis run`` go, from a loaded plan to an exit code?

Everything that can be refused without a cluster is refused before one is started: the Job,
the source, the storage, the port, a run that is going, a resume that would compute
something else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.coordinator.actions import End
from orchestrator.coordinator.events import Opened
from orchestrator.coordinator.policy import KeepServing, policy_of
from orchestrator.errors import (
    InfeasibleError,
    JobError,
    PlanError,
    Problem,
    ResumeRefused,
    StorageError,
)
from orchestrator.feed.pieces import Piece, list_pieces
from orchestrator.job_import import add_working_directory, import_target, load_job
from orchestrator.observe.display import Display
from orchestrator.observe.driver_log import LoggedDisplay
from orchestrator.observe.lease import LEASE_FILE, RunLease, clear_stop
from orchestrator.observe.runs import set_aside
from orchestrator.observe.wording import counted
from orchestrator.plan.data import PythonSource
from orchestrator.plan.dump import dump_plan, plan_hash
from orchestrator.plan.load import LoadedPlan, parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.plan.resume import resume_changes
from orchestrator.plan.sizes import legal_workers
from orchestrator.plan.unsupported import unsupported
from orchestrator.runtime.cluster import Cluster, connect, prepare
from orchestrator.runtime.coordinator import RunRef
from orchestrator.runtime.ports import port_problem
from orchestrator.runtime.stopper import Stopper
from orchestrator.storage import Storage

PLAN_FILE = "plan.yaml"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says beyond the plan."""

    fresh: bool = False
    keep_serving: bool = False
    address: str | None = None
    num_cpus: int | None = None


@dataclass(frozen=True)
class Ended:
    """How the run ended, and where it lies."""

    end: End
    base: Storage
    name: str
    request_url: str = ""

    @property
    def run(self) -> Storage:
        """The run's folder."""
        return self.base.child(self.name)


def run_plan(loaded: LoadedPlan, options: RunOptions, display: Display) -> Ended:
    """Carry the plan out, to its end or until somebody stops it.

    Raises ``AxisError`` for everything that is refused before the run is opened; what happens
    later is told by ``Ended.end``.
    """
    prepare()
    plan = loaded.plan
    add_working_directory()
    _refuse_unsupported(plan)
    _check_inputs(loaded)
    with _writable(loaded) as base:
        run = base.child(plan.name)
        with _held(loaded, base, options, display) as lease:
            end = _carry_out(plan, base, run, options, lease, LoggedDisplay(display, run))
    return Ended(end, base, plan.name, _request_url(plan))


def _carry_out(
    plan: Plan,
    base: Storage,
    run: Storage,
    options: RunOptions,
    lease: RunLease,
    display: LoggedDisplay,
) -> End:
    clear_stop(run)
    stopper = Stopper(run, lease)
    phase = "connect" if options.address else "start Ray"
    with stopper.listening():
        display.begin(phase)
        with connect(options.address, options.num_cpus) as cluster:
            display.finish(phase)
            # Only now: a run whose cluster never came up has not begun with this plan.
            run.write_atomic(PLAN_FILE, dump_plan(plan).encode())
            end = _drive(plan, base, run, cluster, options, stopper, display)
        clear_stop(run)
    return end


def _drive(
    plan: Plan,
    base: Storage,
    run: Storage,
    cluster: Cluster,
    options: RunOptions,
    stopper: Stopper,
    display: LoggedDisplay,
) -> End:
    # Imported here: both import ray, which must find the environment prepared.
    from orchestrator.runtime.driver import Driver
    from orchestrator.runtime.handle import CoordinatorHandle, start_coordinator
    from orchestrator.runtime.internals import redirect_messages

    redirect_messages(display.log)
    ref = RunRef(plan.name, run.uri)
    handle = CoordinatorHandle(start_coordinator(), ref)
    opened = Opened(
        attempt=0,  # given by the coordinator
        at_seconds=time.time(),
        name=plan.name,
        policy=policy_of(
            plan,
            workers=legal_workers(plan),
            keep_serving=_keep_serving(options.keep_serving, cluster.private),
            # Serve places its replicas itself, so their share must be free when it does.
            release_before_deploy=True,
        ),
        plan_hash=plan_hash(plan),
        holder=f"pid {os.getpid()}",
    )
    try:
        return Driver(plan, ref, handle, stopper, display, base.uri).run(opened)
    finally:
        handle.retire()


def _request_url(plan: Plan) -> str:
    inference = plan.inference
    return f"http://{inference.host}:{inference.port}/{plan.name}/" if inference else ""


def _keep_serving(wanted: bool, private: bool) -> KeepServing:
    """A private cluster ends with this process, so keeping means staying; others keep it."""
    if not wanted:
        return "no"
    return "attached" if private else "detached"


def _refuse_unsupported(plan: Plan) -> None:
    reasons = unsupported(plan)
    if reasons:
        raise InfeasibleError("\n".join(reasons))


@contextmanager
def _writable(loaded: LoadedPlan) -> Iterator[Storage]:
    """The plan's storage; a folder that was created for a run which is then refused goes again."""
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
def _held(
    loaded: LoadedPlan, base: Storage, options: RunOptions, display: Display
) -> Iterator[RunLease]:
    """The run's lease, taken before anything of it is moved or written; refused, nothing stays.

    What can be refused is, before ``--fresh`` moves the earlier run aside.
    """
    plan = loaded.plan
    run = base.child(plan.name)
    lease = RunLease.acquire(run, plan.name)
    try:
        if options.address in (None, "local"):
            _check_port(loaded)
        if not options.fresh:
            _check_resume(loaded, run, display)
        elif (aside := set_aside(base, plan.name, lease)) is not None:
            lease.release()
            lease = RunLease.acquire(run, plan.name)
            display.line(f"--fresh: the earlier run was moved aside to {base.name}/{aside}")
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


def _check_resume(loaded: LoadedPlan, run: Storage, display: Display) -> None:
    """Refuse a plan that would make an existing run compute something else."""
    if not run.exists(PLAN_FILE):
        return
    try:
        old = parse_plan(run.read_bytes(PLAN_FILE).decode(), source=f"{run.uri}/{PLAN_FILE}").plan
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
        display.line(f"resume: {note}")


def _check_inputs(loaded: LoadedPlan) -> None:
    """The Job and the source, while no cluster is up that would have to be taken down."""
    plan = loaded.plan
    source = plan.data.source
    try:
        load_job(plan)
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
