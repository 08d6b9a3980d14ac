"""``axis checkpoint export``: one checkpoint's model, for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from orchestrator.cli.checkpoint_lookup import Listed, choose, find_checkpoints
from orchestrator.errors import DamagedCheckpointError, PlanError, Problem
from orchestrator.job_import import add_working_directory, load_job
from orchestrator.observe.wording import counted, format_bytes
from orchestrator.plan.dump import PLAN_FILE
from orchestrator.plan.load import load_plan, parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage
from orchestrator.storage.uri import is_uri

FORMATS = ("hf", "torch")


def export_checkpoint(
    name: str,
    storage: str | None,
    step: int | None,
    output: str,
    form: str,
    force: bool,
    as_json: bool,
) -> None:
    """Export and say what was written.

    Raises ``PlanError`` for what cannot be meant, ``JobError`` for a Job that cannot be
    imported, ``DamagedCheckpointError`` for a checkpoint that is not what was written.
    """
    place = _place(output, form)
    run, listed = find_checkpoints(name, storage)
    chosen = choose(run, listed, step)
    _check_whole(chosen)
    plan = _plan_of(run, name)
    # Only now: torch takes seconds to import, and wrong arguments are told at once.
    from orchestrator.parallel.export import (
        check_file,
        check_folder,
        export_huggingface,
        export_torch,
    )

    check = check_folder if form == "hf" else check_file
    check(place, force)
    add_working_directory()
    job = load_job(plan)
    write = export_huggingface if form == "hf" else export_torch
    done = write(job, run.child(chosen.kept.folder), place, force)
    if as_json:
        fields = {**vars(done), "place": str(done.place), "folder": chosen.kept.folder}
        typer.echo(json.dumps({**fields, "format": form}))
        return
    typer.echo(
        f"exported step {done.step} ({chosen.state}) to {done.place}: "
        f"{counted(done.num_tensors, 'tensor')}, {done.num_parameters:,} parameters, "
        f"{format_bytes(done.size_bytes)}"
    )


def _place(output: str, form: str) -> Path:
    if form not in FORMATS:
        raise _refusal("--format", f'there is no format "{form}"', ", ".join(FORMATS))
    if is_uri(output):
        raise _refusal("--output", f"{output} is not on this machine", "a local path; copy it then")
    return Path(output).expanduser().absolute()


def _refusal(where: str, what: str, works: str) -> PlanError:
    return PlanError([Problem(where, what, works=works)], "axis checkpoint export")


def _check_whole(chosen: Listed) -> None:
    kept = chosen.kept
    if chosen.state in ("damaged", "partial", "being written"):
        raise DamagedCheckpointError(f"{kept.folder} is {chosen.state}: {kept.reason}")


def _plan_of(run: Storage, name: str) -> Plan:
    """The plan that the run began with; that of the file where ``torchrun`` left none."""
    if run.exists(PLAN_FILE):
        text = run.read_bytes(PLAN_FILE).decode(errors="replace")
        return parse_plan(text, source=f"{run.name}/{PLAN_FILE}").plan
    if Path(name).is_file():
        return load_plan(Path(name)).plan
    raise _refusal(
        "RUN",
        f"{run.name} has no {PLAN_FILE}, so its Job is not known",
        "the plan file instead of the folder",
    )
