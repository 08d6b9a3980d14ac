"""``axis doctor``: is everything there that a run needs?"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.plan.load import load_plan

if TYPE_CHECKING:
    from orchestrator.runtime.doctor.findings import Finding

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def show_doctor(path: str | None, overrides: list[str], address: str | None, as_json: bool) -> int:
    """Print one line for everything that was looked at; returns 3 where something fails.

    Raises ``PlanError`` for a plan that cannot be read.
    """
    plan = load_plan(path, overrides).plan if path else None
    # Only now: it imports what it examines.
    from orchestrator.runtime.doctor.examine import Patient, examine
    from orchestrator.runtime.doctor.findings import tally

    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    began = time.monotonic()
    found: list[Finding] = []
    for finding in examine(Patient(plan, Path(path) if path else None, overrides, address)):
        found.append(finding)
        typer.echo(json.dumps(finding.to_dict()) if as_json else _line(finding))
    counts, seconds = tally(found), time.monotonic() - began
    exit_code = 3 if counts["fail"] else 0
    if as_json:
        fields = {"seconds": round(seconds, 2), "exit_code": exit_code}
        typer.echo(json.dumps({"kind": "end", **dict(counts), **fields}))
    else:
        told = f"{counts['ok']} well, {counts['warn']} doubtful, {counts['fail']} failed"
        typer.echo(f"\n{told}; in {seconds:.1f} s")
    return exit_code


def _line(finding: Finding) -> str:
    lines = finding.text.splitlines() or [""]
    told = f"{_MARKS[finding.level]}  {finding.what:<13}  " + ("\n" + " " * 21).join(lines)
    return told + (f"\n{'':21}fix: {finding.fix}" if finding.fix else "")
