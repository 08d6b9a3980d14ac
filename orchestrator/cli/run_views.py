"""``axis status``, ``ls``, ``logs`` and ``stop``: what can be said of runs from their storage.

None of them needs a cluster: a run tells everything by what it leaves in its folder.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import typer

from orchestrator.cli.run_lookup import DEFAULT_STORAGE, find_run
from orchestrator.errors import DeadlineExceeded, PlanError
from orchestrator.observe.holder import ago
from orchestrator.observe.lease import request_stop
from orchestrator.observe.runs import RunView, list_runs, view_run
from orchestrator.observe.wording import counted
from orchestrator.plan.quantities import parse_deadline
from orchestrator.plan.refusal import Refusal
from orchestrator.storage import Storage

_POLL_SECONDS = 0.5
_LOG = re.compile(r"logs/attempt-(\d+)/(?:worker-(\d+)|(\w+))\.log")


def show_status(name: str, storage: str | None, as_json: bool) -> None:
    """Print where one run stands."""
    base, run = find_run(name, storage)
    view = view_run(base, run)
    typer.echo(finite_json(view.to_dict()) if as_json else _status_text(view))


def show_runs(storage: str | None, as_json: bool) -> None:
    """Print one line a run."""
    base = Storage.open(storage or DEFAULT_STORAGE)
    views = list_runs(base)
    if as_json:
        typer.echo(finite_json([view.to_dict() for view in views]))
        return
    if not views:
        where = "no runs in" if base.exists() else "no runs: there is no folder"
        typer.echo(f"{where} {base.name}; axis run PLAN begins one")
        return
    rows: list[tuple[str, ...]] = [("RUN", "STATUS", "STEP", "ATTEMPT", "LOSS", "BEST", "UPDATED")]
    rows += [_row(view) for view in views]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    for view in sorted(views, key=lambda view: view.queue):
        if view.queue:
            typer.echo(f"{view.name} waits (priority {view.priority}), {view.queue}")


def show_logs(
    name: str,
    storage: str | None,
    attempt: int | None,
    worker: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the logs of one attempt, each line with the name of its writer."""
    base, run_name = find_run(name, storage)
    run = base.child(run_name)
    attempts = sorted({number for number, _, _ in _log_files(run)})
    chosen = attempt or max(attempts, default=0)
    printed: dict[str, int] = {}
    while True:
        live = view_run(base, run_name).live
        for path, writer in _logs_of(run, chosen, worker):
            for line in _new_lines(run, path, printed):
                text = json.dumps(_labelled(run_name, chosen, writer, line))
                typer.echo(text if as_json else f"{writer}: {line}")
        if not (follow and live):
            break
        time.sleep(_POLL_SECONDS)
    if not printed:
        typer.echo(_no_logs(run_name, attempts, chosen, worker), err=True)


def stop_run(name: str, storage: str | None, timeout: str, as_json: bool) -> None:
    """Ask a run to stop and wait until it has.

    Raises ``DeadlineExceeded`` when it is still going after ``timeout``.
    """
    try:
        timeout_seconds = parse_deadline(timeout)
    except Refusal as refusal:
        raise PlanError([refusal.problem("--timeout")], "command line") from refusal
    base, run_name = find_run(name, storage)
    view = view_run(base, run_name)
    if view.live:
        request_stop(base.child(run_name), "axis stop")
        view = _await_end(base, run_name, timeout_seconds)
        text = f"{run_name}: {view.message or view.status}"
    else:
        text = f"{run_name}: nothing to stop, it is {view.status}"
    typer.echo(finite_json(view.to_dict()) if as_json else text)


def _await_end(base: Storage, name: str, timeout_seconds: float) -> RunView:
    deadline = time.monotonic() + timeout_seconds
    while True:
        view = view_run(base, name)
        if not view.live:
            return view
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"{name} was asked to stop, but is still {view.phase} after {timeout_seconds:g} s"
            )
        time.sleep(_POLL_SECONDS)


def _status_text(view: RunView) -> str:
    lines = [
        f"{view.name}: {view.status}" + (f" ({view.phase})" if view.live else ""),
        f"  step        {view.step} of {view.steps}, {view.committed_step} committed in "
        f"{counted(view.num_checkpoints, 'checkpoint')}",
        f"  attempt     {view.attempt}, {counted(view.num_restarts, 'restart')}",
    ]
    if view.queue:
        lines.append(f"  waits       {view.queue}")
    if view.goodput:
        lines.append(f"  time        {view.goodput}")
    if view.last_loss is not None:
        lines.append(f"  loss        {view.last_loss:.4f}")
    if view.best is not None:
        lines.append(f"  best        {view.best_metric} {view.best:.4f}")
    if view.promoted:
        lines.append(f"  promoted    {view.promoted}")
    if view.url:
        lines.append(f"  serving     {view.url}")
    if view.holder:
        lines.append(f"  held by     {view.holder.render()}")
    if view.message:
        code = "" if view.exit_code is None else f" (exit code {view.exit_code})"
        lines.append(f"  said        {view.message}{code}")
    if view.updated_at_seconds:
        lines.append(f"  updated     {_when(view.updated_at_seconds)}")
    if view.problem:
        lines.append(f"  damaged     {view.problem}")
    lines.append(f"  lies in     {view.uri}")
    if view.resumable:
        lines.append("  the same `axis run` resumes it")
    return "\n".join(lines)


def _row(view: RunView) -> tuple[str, ...]:
    return (
        view.name,
        "aside" if view.aside else view.status,
        f"{view.step}/{view.steps}",
        str(view.attempt),
        "-" if view.last_loss is None else f"{view.last_loss:.4f}",
        "-" if view.best is None else f"{view.best_metric} {view.best:.4f}",
        _when(view.updated_at_seconds) if view.updated_at_seconds else "-",
    )


def _when(at_seconds: float) -> str:
    age = ago(time.time() - at_seconds)
    clock = datetime.fromtimestamp(at_seconds).strftime("%Y-%m-%d %H:%M:%S")
    return f"{clock} ({age} ago)" if age else clock


def _no_logs(name: str, attempts: Sequence[int], chosen: int, worker: int | None) -> str:
    if not attempts:
        return f"{name}: no logs yet"
    who = "" if worker is None else f" of worker {worker}"
    known = ", ".join(map(str, attempts))
    return f"{name}: no logs{who} in attempt {chosen}; there are logs of attempt {known}"


def finite_json(value: Any) -> str:
    """As JSON, which knows no NaN: a loss that is not a number is null."""
    return json.dumps(_finite(value), default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _labelled(run: str, attempt: int, writer: str, line: str) -> dict[str, Any]:
    """A line with whose it is; one that a worker wrote as JSON keeps its own fields."""
    rank = writer.removeprefix("worker-")
    axis = "training" if rank != writer else "coordination"
    fields = {"run": run, "attempt": attempt, "axis": axis, "writer": writer, "line": line}
    return {**fields, "rank": int(rank)} if rank != writer else fields


def _log_files(run: Storage) -> list[tuple[int, str, str]]:
    """Attempt, writer and path of every log."""
    found = []
    for entry in run.list("logs", recursive=True):
        match = _LOG.fullmatch(entry.path)
        if match:
            writer = f"worker-{match[2]}" if match[2] is not None else match[3]
            found.append((int(match[1]), writer, entry.path))
    return found


def _logs_of(run: Storage, attempt: int, worker: int | None) -> Sequence[tuple[str, str]]:
    return [
        (path, writer)
        for number, writer, path in _log_files(run)
        if number == attempt and (worker is None or writer == f"worker-{worker}")
    ]


def _new_lines(run: Storage, path: str, printed: dict[str, int]) -> Iterator[str]:
    """Whole lines that were not yielded before."""
    data = run.read_bytes(path)
    begin = printed.get(path, 0)
    end = data.rfind(b"\n") + 1
    printed[path] = max(begin, end)
    for line in data[begin:end].splitlines():
        yield line.decode(errors="replace")
