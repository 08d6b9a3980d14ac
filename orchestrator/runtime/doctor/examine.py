"""In which order is everything looked at, and from where?

Without an address: this machine, and a private cluster on it. With the address of a cluster: this
machine, and the cluster from inside. With that of a Jobs API: this machine, and the cluster by a
short job that looks at it from inside.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import AxisError, DeadlineExceeded
from orchestrator.plan.plan import Plan
from orchestrator.runtime.doctor.facts import measure, measure_storage, measure_token
from orchestrator.runtime.doctor.findings import (
    Finding,
    judge_machine,
    judge_storage,
    judge_token,
    judge_versions,
)
from orchestrator.runtime.ports import port_problem
from orchestrator.runtime.submit.reach import Api, reach
from orchestrator.runtime.submit.submission import outcome_of
from orchestrator.storage import Storage

if TYPE_CHECKING:
    from orchestrator.runtime.submit.client import Jobs

JOB_SECONDS = 60.0
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Patient:
    """What is looked at: a plan besides, where there is one."""

    plan: Plan | None = None
    plan_file: Path | None = None
    overrides: Sequence[str] = ()
    address: str | None = None


def examine(patient: Patient) -> Iterator[Finding]:
    """Everything, as it is found out."""
    plan, address = patient.plan, patient.address
    facts = measure(None)
    yield from judge_versions(facts)
    yield judge_token(measure_token(os.environ))
    if address is not None and address.startswith(("http://", "https://")):
        yield from _through_the_jobs_api(patient, address)
        return
    yield from judge_machine(facts)
    base = None
    if plan is not None:
        yield judge_storage(measure_storage(plan.storage))
        with suppress(AxisError):
            base = Storage.open(plan.storage)
    if plan is not None and address is None:
        yield from _port(plan)
    yield from _from_inside(plan, base, address)


def _port(plan: Plan) -> Iterator[Finding]:
    if plan.inference is None:
        return
    host, port = plan.inference.host, plan.inference.port
    problem = port_problem(host, port)
    if problem is None:
        yield Finding("ok", "ports", f"{port} of {host} is free for the application")
    else:
        yield Finding("fail", "ports", problem.what, problem.works)


def _from_inside(plan: Plan | None, base: Storage | None, address: str | None) -> Iterator[Finding]:
    from orchestrator.runtime.cluster import connect

    began = time.monotonic()
    try:
        with connect(address, None) as cluster:
            from orchestrator.runtime.doctor.cluster import examine_cluster

            what = "started" if cluster.private else f"connected to {cluster.address}"
            yield Finding("ok", "cluster", f"{what} in {time.monotonic() - began:.1f} s")
            yield from examine_cluster(plan, base)
    except AxisError as error:
        what, _, fix = str(error).partition("\n  works: ")
        yield Finding("fail", "cluster", what, fix)


def _through_the_jobs_api(patient: Patient, address: str) -> Iterator[Finding]:
    try:
        began = time.monotonic()
        api = reach(address)
        seconds = time.monotonic() - began
        yield Finding("ok", "jobs API", f"{api.url} answered in {seconds:.1f} s")
        yield _alike(api)
        yield _locked(api)
        yield from _job(api, patient)
    except AxisError as error:
        what, _, fix = str(error).partition("\n  works: ")
        yield Finding("fail", "jobs API", what, fix)


def _alike(api: Api) -> Finding:
    own = measure(None).ray
    text = f"the cluster has {api.ray_version}, here it is {own}"
    if api.ray_version == own:
        return Finding("ok", "ray", text)
    return Finding("warn", "ray", text, f"pip install 'ray[default]=={api.ray_version}'")


def _locked(api: Api) -> Finding:
    """Whether the cluster lets anybody in."""
    if api.token is not None:
        return Finding("ok", "token", "the cluster wants it, and took it")
    fix = "start Ray with RAY_AUTH_MODE=token; who reaches the port can run any code"
    return Finding("warn", "token", "the cluster wants none", fix)


def _job(api: Api, patient: Patient) -> Iterator[Finding]:
    """Have the cluster examine itself, and read what it found."""
    from orchestrator.runtime.submit.client import Jobs
    from orchestrator.runtime.submit.package import pack

    jobs = Jobs(api)
    name = f"axis-doctor-{secrets.token_hex(4)}"
    words = ["axis", "doctor", "--address", "auto", "--json"]
    with tempfile.TemporaryDirectory(prefix="axis-package-") as folder:
        package = None
        if patient.plan_file is not None:
            inside = Path(folder) / "inside"
            inside.mkdir()
            (inside / "plan.yaml").write_bytes(patient.plan_file.read_bytes())
            package = Path(folder) / "working_dir.zip"
            pack(inside).write(package)
            words += ["plan.yaml", *patient.overrides]
        jobs.submit(name, shlex.join(words), package, {}, {})
    try:
        yield from _read(jobs, name)
    finally:
        with suppress(AxisError):
            jobs.delete(name)


def _read(jobs: Jobs, name: str) -> Iterator[Finding]:
    deadline = time.monotonic() + JOB_SECONDS
    num_read = 0
    while True:
        job = jobs.one(name)
        found = findings_in(jobs.logs(name))
        yield from (replace(each, text=f"cluster: {each.text}") for each in found[num_read:])
        num_read = len(found)
        if not job.live:
            break
        if time.monotonic() >= deadline:
            jobs.stop(name)
            raise DeadlineExceeded(f"the cluster did not examine itself within {JOB_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
    if not found:
        outcome = outcome_of(job, "")
        text = f"the cluster could not examine itself: {outcome.text}"
        yield Finding("fail", "cluster", text, f"axis logs {name} --address {jobs.api.url}")


def findings_in(log: str) -> list[Finding]:
    """The findings among what a job printed."""
    found = []
    for line in log.splitlines():
        with suppress(ValueError, TypeError):
            fields = json.loads(line)
            if isinstance(fields, dict) and fields.pop("kind", "") == "finding":
                found.append(Finding(**fields))
    return found
