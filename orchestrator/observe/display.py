"""What does a person see while a run goes on, and what does a program read?

Three ways of showing the same things: bars on a terminal, plain lines where there is none,
one JSON object a line with ``--json``. Progress goes to standard error, results to standard
output. Knows nothing of where progress comes from.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

_LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows phases, lines and events."""

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """A phase begins; ``total`` units of it will be done, ``done`` are already."""

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """So many units are done; ``note`` is shown beside the bar."""

    def finish(self, phase: str, note: str = "") -> None:
        """The phase is over."""

    def line(self, text: str) -> None:
        """One line for the person."""

    def event(self, fields: Mapping[str, Any]) -> None:
        """One event for the program."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonDisplay:
    """One JSON object a line, on standard output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._units: dict[str, tuple[int, str]] = {}
        self._shown_at = 0.0

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        self._units[phase] = (total, unit)
        self._write({"kind": "phase", "phase": phase, "total": total, "unit": unit, "done": done})

    def advance(self, phase: str, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._shown_at < 1.0:
            return
        self._shown_at = now
        total, unit = self._units.get(phase, (0, ""))
        self._write(
            {
                "kind": "progress",
                "phase": phase,
                "done": done,
                "total": total,
                "unit": unit,
                "note": note,
            }
        )

    def finish(self, phase: str, note: str = "") -> None:
        self._write({"kind": "phase-done", "phase": phase, "note": note})

    def line(self, text: str) -> None:
        self._write({"kind": "message", "text": text})

    def event(self, fields: Mapping[str, Any]) -> None:
        self._write(dict(fields))

    def close(self) -> None:
        self._stream.flush()

    def _write(self, fields: dict[str, Any]) -> None:
        print(json.dumps(fields, default=str), file=self._stream, flush=True)


class _Rate:
    """Units a second since the phase began, and what is left at that rate."""

    def __init__(self, total: int, done: int) -> None:
        self.total = total
        self._first = done
        self._began = time.monotonic()

    def text(self, done: int, unit: str) -> str:
        """``12.3 steps/s, 8 s left``; empty before anything is done."""
        elapsed = time.monotonic() - self._began
        if done <= self._first or elapsed <= 0:
            return ""
        rate = (done - self._first) / elapsed
        left = (self.total - done) / rate
        return f"{rate:.1f} {unit}/s, {left:.0f} s left"


class PlainDisplay:
    """Plain lines on standard error, every few seconds; no colours, no cursor movement."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._phases: dict[str, tuple[_Rate, str]] = {}
        self._shown_at = 0.0

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        self._phases[phase] = (_Rate(total, done), unit)
        self._shown_at = time.monotonic()
        self.line(f"{phase}: {total} {unit}" + (f", {done} done before" if done else ""))

    def advance(self, phase: str, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._shown_at < _LINE_SECONDS or phase not in self._phases:
            return
        self._shown_at = now
        rate, unit = self._phases[phase]
        parts = [f"{done}/{rate.total} {unit}", rate.text(done, unit), note]
        self.line(f"{phase}: " + ", ".join(part for part in parts if part))

    def finish(self, phase: str, note: str = "") -> None:
        self._phases.pop(phase, None)
        self.line(f"{phase}: done" + (f", {note}" if note else ""))

    def line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def event(self, fields: Mapping[str, Any]) -> None:
        return

    def close(self) -> None:
        self._stream.flush()


class RichDisplay:
    """One bar a phase, with rate and time left, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}", style="progress.data.speed"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            refresh_per_second=4,
        )
        self._progress.start()
        self._tasks: dict[str, tuple[Any, _Rate, str]] = {}

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        task = self._progress.add_task(
            phase, total=total, completed=done, unit=unit, rate="", note=""
        )
        self._tasks[phase] = (task, _Rate(total, done), unit)

    def advance(self, phase: str, done: int, note: str = "") -> None:
        if phase not in self._tasks:
            return
        task, rate, unit = self._tasks[phase]
        speed = rate.text(done, unit).partition(",")[0]
        self._progress.update(task, completed=done, note=note, rate=speed)

    def finish(self, phase: str, note: str = "") -> None:
        if phase in self._tasks:
            task, rate, _ = self._tasks.pop(phase)
            self._progress.update(task, completed=rate.total, note=note)
            self._progress.stop_task(task)

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def event(self, fields: Mapping[str, Any]) -> None:
        return

    def close(self) -> None:
        self._progress.stop()


def choose_display(as_json: bool) -> Display:
    """JSON lines when asked for; bars on a terminal; plain lines everywhere else."""
    if as_json:
        return JsonDisplay()
    return RichDisplay() if sys.stderr.isatty() else PlainDisplay()
