"""``axis study``: the same plan at several numbers of workers, really run, smallest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from orchestrator.cli.hardware import Hardware, choose_hardware
from orchestrator.cli.plan_command import check_mesh, load_checked
from orchestrator.errors import PlanError, Problem, StorageError
from orchestrator.observe.display import choose_display
from orchestrator.plan.load import LoadedPlan
from orchestrator.plan.sizes import nearest_counts, why_not
from orchestrator.plan.wording import choice
from orchestrator.planner.study.page import MARK, study_page
from orchestrator.planner.study.points import Study, study_head, study_rows, study_view

LEAST_STEPS = 12
"""Fewer steps than this say more of the start than of a step."""


@dataclass(frozen=True)
class StudyOptions:
    """What the command line says beyond the plan."""

    workers: str
    steps: int
    output: str
    address: str | None
    num_cpus: int | None
    hardware: str | None


def study_plan(path: str, overrides: Sequence[str], options: StudyOptions, as_json: bool) -> None:
    """Run the plan at each number of workers, then write the page and the JSON.

    Raises ``PlanError`` before anything starts for a number that the plan cannot have, and
    ``AxisError`` where a run does not end well.
    """
    counts = _counts(options.workers)
    if options.steps < LEAST_STEPS:
        what = f"{options.steps} steps are too few"
        works = f"{LEAST_STEPS} or more"
        raise PlanError([Problem("--steps", what, works=works)], "command line")
    chosen = choose_hardware(options.hardware)
    if chosen.problem:
        typer.echo(f"warning: nothing is predicted: {chosen.problem}", err=True)
    folder = _folder(options.output)
    plans = _plans(path, overrides, counts, options.steps)
    # Only now: everything that can be refused has been.
    from orchestrator.runtime.study import Setting, run_study

    setting = Setting(options.address, options.num_cpus, chosen.device)
    name = load_checked(path, list(overrides)).plan.name
    about = _about(path, overrides, options, chosen)
    display = choose_display(False)  # on standard error: the result is on standard output
    try:
        study = run_study(name, plans, setting, about, display)
    finally:
        display.close()
    view = study_view(study)
    _write(folder / "study.json", json.dumps(view, indent=2) + "\n")
    _write(folder / "study.html", study_page(study))
    if as_json:
        typer.echo(json.dumps(view, indent=2))
        return
    typer.echo(study_text(study))
    typer.echo(f"\n  page   {folder / 'study.html'}\n  JSON   {folder / 'study.json'}")


def _counts(text: str) -> list[int]:
    """``1,2,4`` in order, each once. Raises ``PlanError`` for anything else."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        what = f'"{text}" is not a list of numbers of workers'
        raise PlanError([Problem("--workers", what, works="--workers 1,2,4")], "command line")
    return sorted({int(word) for word in words})


def _plans(
    path: str, overrides: Sequence[str], counts: Sequence[int], steps: int
) -> list[LoadedPlan]:
    """The plan at each number of workers, with as many steps and nothing beside them: no
    evaluation, no serving, one checkpoint at the end."""
    given = load_checked(path, list(overrides))
    problems = []
    plans = []
    for count in counts:
        fixed = [
            *overrides,
            f"name={given.plan.name}-study-{count}",
            f"training.workers={count}",
            f"training.steps={steps}",
            f"coordination.checkpoint.every={steps}",
            "training.evaluate.samples=0",
            "inference=null",
        ]
        try:
            loaded = load_checked(path, fixed)
            check_mesh(loaded)
            plans.append(loaded)
        except PlanError as error:
            refusal = why_not(given.plan, count)
            if refusal is None:
                raise
            near = choice([str(each) for each in nearest_counts(given.plan, count)])
            works = f"--workers {near}" if near else refusal.works
            first = error.problems[0]
            problems.append(Problem(f"--workers {count}", first.what, first.arithmetic, works))
    if problems:
        raise PlanError(problems, path)
    return plans


def _about(
    path: str, overrides: Sequence[str], options: StudyOptions, chosen: Hardware
) -> tuple[tuple[str, str], ...]:
    rows = [
        ("plan", " ".join([path, *overrides])),
        ("steps of each run", str(options.steps)),
        ("cluster", options.address or "a private one on this machine"),
        ("predicted for", chosen.source or "nothing"),
        ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    return tuple(rows)


def study_text(study: Study) -> str:
    """The table and the verdict, for a terminal."""
    rows = [study_head(study), *study_rows(study)]
    shown = [i for i in range(len(rows[0])) if any(row[i] != "–" for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in shown]
    lines = [
        "  " + "  ".join(row[i].rjust(width) for i, width in zip(shown, widths, strict=True))
        for row in rows
    ]
    text = "\n".join([f"Scaling study of {study.name}", "", *lines, "", study.verdict])
    return f"{text}\n{study.no_prediction}" if study.no_prediction else text


def _folder(output: str) -> Path:
    """Where the results go; refused before a run rather than after it."""
    folder = Path(output)
    page = folder / "study.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if page.exists() and MARK not in page.read_text(encoding="utf-8")[:200]:
            what = "holds a study.html that was not written by axis study"
            raise PlanError([Problem("--output", what, works="another folder")], output)
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{output} cannot be written: {error}") from error
    return folder


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error
