"""``axis checkpoint ls`` and ``verify``: what is there, and is it what was written?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer

from orchestrator.cli.checkpoint_lookup import Listed, choose, find_checkpoints
from orchestrator.cli.run_views import finite_json
from orchestrator.errors import AxisError, DamagedCheckpointError, DamagedError, ResumeRefused
from orchestrator.observe.holder import ago
from orchestrator.observe.wording import counted, format_bytes
from orchestrator.parallel.manifest import verify_checkpoint
from orchestrator.parallel.upkeep import DAMAGE_MARK, damage_of
from orchestrator.plan.mesh import Mesh
from orchestrator.storage import Storage


@dataclass(frozen=True)
class Verified:
    """What reading a checkpoint came to. ``error`` is empty where all bytes are as written."""

    folder: str
    step: int
    attempt: int
    sound: bool
    size_bytes: int
    seconds: float
    error: str = ""
    set_aside: str = ""

    def sentence(self) -> str:
        """One line for people."""
        if not self.sound:
            return f"{self.folder}: DAMAGED: {self.error}"
        rate = self.size_bytes / 1e6 / max(self.seconds, 1e-9)
        text = (
            f"{self.folder}: sound ({format_bytes(self.size_bytes)} in {self.seconds:.2f} s, "
            f"{rate:,.0f} MB/s)"
        )
        if self.set_aside:
            text += f", but set aside: {self.set_aside}; deleting its {DAMAGE_MARK} undoes that"
        return text


def show_checkpoints(name: str, storage: str | None, as_json: bool) -> None:
    """Print one line a checkpoint, oldest first, and why some are no use."""
    run, listed = find_checkpoints(name, storage)
    if as_json:
        typer.echo(finite_json([_fields(each) for each in listed]))
        return
    if not listed:
        typer.echo(f"no checkpoints in {run.name}")
        return
    typer.echo(table(listed, time.time()))
    for each in listed:
        if each.kept.reason and each.state in ("damaged", "newer"):
            typer.echo(f"step {each.kept.step}, {each.state}: {each.kept.reason}")


def verify_checkpoints(
    name: str, storage: str | None, step: int | None, every: bool, as_json: bool
) -> None:
    """Read one checkpoint or all, and print what each came to.

    Raises ``DamagedCheckpointError`` when one of them is damaged, and ``ResumeRefused`` for one
    that only a newer version reads.
    """
    run, listed = find_checkpoints(name, storage)
    chosen = [each for each in listed if each.kept.condition in ("sound", "damaged", "newer")]
    if not every or not chosen:
        chosen = [choose(run, _unpromoted(listed), step)]
    results = []
    refusals: list[AxisError] = []
    for each in chosen:
        try:
            results.append(_verify(run, each))
        except ResumeRefused as error:
            refusals.append(error)
            continue
        if not as_json:
            typer.echo(results[-1].sentence())
    damaged = [result for result in results if not result.sound]
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results]))
        if damaged:
            raise typer.Exit(DamagedError.exit_code)
    if damaged:
        what = "is not" if len(damaged) == 1 else "are not"
        raise DamagedCheckpointError(
            f"{counted(len(damaged), 'checkpoint')} of {len(results)} {what} what was written; "
            "a resume sets such a one aside and takes the one before"
        )
    for refusal in refusals:
        raise refusal


def table(listed: Sequence[Listed], now_seconds: float) -> str:
    """Aligned columns; metrics have one each."""
    names = sorted({name for each in listed for name in each.kept.metrics})
    rows = [("STEP", "ATTEMPT", "MESH", "SIZE", *map(str.upper, names), "AGE", "STATE")]
    rows += [_row(each, names, now_seconds) for each in listed]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _row(each: Listed, names: Sequence[str], now_seconds: float) -> tuple[str, ...]:
    kept = each.kept
    figures = [f"{kept.metrics[n]:.4g}" if n in kept.metrics else "-" for n in names]
    age = ago(now_seconds - kept.at_seconds) if kept.at_seconds else ""
    return (
        str(kept.step),
        str(kept.attempt),
        mesh_words(kept.mesh),
        format_bytes(kept.size_bytes),
        *figures,
        age or "now",
        each.state,
    )


def mesh_words(mesh: Mapping[str, int]) -> str:
    """The degrees that are not 1."""
    try:
        return str(Mesh(**mesh)) if mesh else "-"
    except (TypeError, ValueError):
        return " · ".join(f"{name} {degree}" for name, degree in mesh.items())


def _fields(each: Listed) -> dict[str, Any]:
    return {**asdict(each.kept), "state": each.state}


def _unpromoted(listed: list[Listed]) -> list[Listed]:
    """Promotion is no reason to look at another one than the newest."""
    return [Listed(each.kept, each.kept.condition) for each in listed]


def _verify(run: Storage, each: Listed) -> Verified:
    kept, error, size_bytes = each.kept, "", each.kept.size_bytes
    begun = time.perf_counter()
    try:
        size_bytes = verify_checkpoint(run.child(kept.folder)).size_bytes
    except DamagedError as damage:
        error = str(damage)
    seconds = time.perf_counter() - begun
    mark = damage_of(run, kept.folder)
    return Verified(
        kept.folder, kept.step, kept.attempt, not error, size_bytes, seconds, error, mark
    )
