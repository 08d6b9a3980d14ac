"""How does one ``axis run`` go, from a loaded plan to an exit code?

Everything that can be refused without a cluster is refused before one is started
(``admission``).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.coordinator.actions import End
from orchestrator.coordinator.events import Opened
from orchestrator.coordinator.policy import KeepServing, policy_of
from orchestrator.job import Job
from orchestrator.job_import import add_working_directory, concealer_of
from orchestrator.observe.display import Display
from orchestrator.observe.driver_log import LoggedDisplay
from orchestrator.observe.lease import RunLease, clear_stop
from orchestrator.plan.dump import PLAN_FILE, dump_plan, plan_hash
from orchestrator.plan.load import LoadedPlan
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.planner.cost.device import Device
from orchestrator.runtime.admission import (
    check_inputs,
    check_lasting,
    held_run,
    writable_storage,
)
from orchestrator.runtime.cluster import Cluster, connect, prepare
from orchestrator.runtime.forecasting import store_prediction
from orchestrator.runtime.labelled import concealed
from orchestrator.runtime.stopper import Stopper
from orchestrator.storage import Storage


@dataclass(frozen=True)
class RunOptions:
    """What the command line says beyond the plan."""

    fresh: bool = False
    keep_serving: bool = False
    address: str | None = None
    num_cpus: int | None = None
    hardware: Device | None = None
    """What is predicted for; without it nothing is predicted."""


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
    check_lasting(loaded, Path.cwd())
    add_working_directory()
    private = options.address in (None, "local")
    with contextlib.ExitStack() as stack:
        stack.enter_context(concealed(concealer_of(plan)))
        job = check_inputs(loaded)
        base = stack.enter_context(writable_storage(loaded))
        run = base.child(plan.name)
        logged = LoggedDisplay(display, run)
        with held_run(loaded, job, base, private, options.fresh, logged.line) as lease:
            end = _carry_out(plan, job, base, run, options, lease, logged)
    return Ended(end, base, plan.name, _request_url(plan))


def _carry_out(
    plan: Plan,
    job: Job,
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
            stopper.catch()
            display.finish(phase)
            if not cluster.private:
                _check_nodes(plan, base, display)
            # Only now: a run whose cluster never came up has not begun with this plan.
            run.write_atomic(PLAN_FILE, dump_plan(plan).encode())
            store_prediction(run, plan, job, options.hardware)
            end = _drive(plan, base, run, cluster, options, stopper, display)
        clear_stop(run)
    return end


def _check_nodes(plan: Plan, base: Storage, display: LoggedDisplay) -> None:
    # Imported here, as below.
    from orchestrator.runtime.shared_storage import check_nodes

    for line in check_nodes(plan, base):
        display.line(f"{line}; whether it sees the storage is not known")


def _drive(
    plan: Plan,
    base: Storage,
    run: Storage,
    cluster: Cluster,
    options: RunOptions,
    stopper: Stopper,
    display: LoggedDisplay,
) -> End:
    # Imported here: they import ray, which must find the environment prepared.
    from orchestrator.runtime.autoscaling import room_asked_for
    from orchestrator.runtime.driver import Driver
    from orchestrator.runtime.handle import CoordinatorHandle, start_coordinator
    from orchestrator.runtime.internals.state import redirect_messages
    from orchestrator.runtime.messages import RunRef

    redirect_messages(display.log)
    ref = RunRef(plan.name, run.uri)
    handle = CoordinatorHandle(start_coordinator(), ref, start_coordinator)
    opened = Opened(
        attempt=0,  # given by the coordinator
        at_seconds=time.time(),
        name=plan.name,
        policy=policy_of(
            plan,
            workers=legal_workers(plan),
            keep_serving=_keep_serving(options.keep_serving, cluster.private),
            # Serve places its replicas itself, so their share is given back when they ask for it.
            hand_over=True,
        ),
        plan_hash=plan_hash(plan),
        holder=f"pid {os.getpid()}",
    )
    try:
        driver = Driver(plan, ref, handle, stopper, display, base.uri, cluster.private)
        with room_asked_for(plan, cluster.private):
            return driver.run(opened)
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
