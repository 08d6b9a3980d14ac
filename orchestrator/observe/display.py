"""What does a person see while a run goes on, and what does a program read?

Three ways of showing the same things: bars on a terminal (``bars``), plain lines where there is
none, one JSON object a line with ``--json``. Progress goes to standard error, results to
standard output. Knows nothing of where progress comes from.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from orchestrator.observe.tally import Tally

_LINE_SECONDS = 5.0
_JSON_SECONDS = 1.0


class Display(Protocol):
    """Shows phases, lines and events."""

    def begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        """A phase begins; ``total`` units of it will be done, ``done`` are already.

        ``total`` 0: nothing is counted, it is only waited for. Begun again before it is over,
        the phase goes on and counting starts anew.
        """

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """So many units are done; ``note`` is shown beside the bar."""

    def finish(self, phase: str, note: str = "") -> None:
        """The phase is over, whether all of it was done or not."""

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
        self._tallies: dict[str, Tally] = {}
        self._shown_at = 0.0

    def begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        """``{"kind": "phase", …}``; ``total`` 0 where nothing is counted."""
        _begin(self._tallies, phase, total, unit, done)
        self._write({"kind": "phase", "phase": phase, "total": total, "unit": unit, "done": done})

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """``{"kind": "progress", …}``, once a second at most, and when all is done."""
        tally = self._tallies.get(phase)
        if tally is None:
            return
        before, now = tally.done, time.monotonic()
        tally.advance(done)
        ended = tally.total and before < done >= tally.total
        if now - self._shown_at < _JSON_SECONDS and not ended:
            return
        self._shown_at = now
        fields = {"done": done, "total": tally.total, "unit": tally.unit, "note": note}
        speed = {"per_second": tally.rate, "left_seconds": tally.left_seconds}
        self._write({"kind": "progress", "phase": phase, **fields, **speed})

    def finish(self, phase: str, note: str = "") -> None:
        """``{"kind": "phase-done", …}`` with the seconds that the phase took."""
        tally = self._tallies.pop(phase, None)
        if tally is None:
            return
        fields = {"done": tally.done, "total": tally.total, "unit": tally.unit, "note": note}
        seconds = {"seconds": round(tally.elapsed_seconds, 3), "per_second": tally.rate}
        self._write({"kind": "phase-done", "phase": phase, **fields, **seconds})

    def line(self, text: str) -> None:
        """``{"kind": "message", "text": …}``."""
        self._write({"kind": "message", "text": text})

    def event(self, fields: Mapping[str, Any]) -> None:
        """The event as it is."""
        self._write(dict(fields))

    def close(self) -> None:
        """Nothing is held back."""
        self._stream.flush()

    def _write(self, fields: dict[str, Any]) -> None:
        print(json.dumps(fields, default=str), file=self._stream, flush=True)


class PlainDisplay:
    """Plain lines on standard error, every few seconds; no colours, no cursor movement."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tallies: dict[str, Tally] = {}
        self._shown_at = 0.0
        self._begun = ""

    def begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        """One line that says what begins; saying the same again only restarts its clock."""
        _begin(self._tallies, phase, total, unit, done)
        self._shown_at = time.monotonic()
        text = begun_text(phase, total, unit, done)
        if text != self._begun:
            self.line(text)
        self._begun = text

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """One line every few seconds."""
        tally = self._tallies.get(phase)
        if tally is None:
            return
        tally.advance(done)
        now = time.monotonic()
        if now - self._shown_at < _LINE_SECONDS:
            return
        self._shown_at = now
        parts = [tally.count_text(), tally.rate_text(), tally.time_text(), note]
        self.line(f"{phase}: " + ", ".join(part for part in parts if part))

    def finish(self, phase: str, note: str = "") -> None:
        """One line with what was done and how long it took."""
        tally = self._tallies.pop(phase, None)
        if tally is not None:
            self.line(f"{phase}: {tally.closing_text(note)}")

    def line(self, text: str) -> None:
        """The line."""
        print(text, file=self._stream, flush=True)

    def event(self, fields: Mapping[str, Any]) -> None:
        """Nothing: events are for programs."""

    def close(self) -> None:
        """Nothing is held back."""
        self._stream.flush()


def begun_text(phase: str, total: int, unit: str, done: int) -> str:
    """``train: 300 steps, 100 of them done before``; ``ray: …`` where nothing is counted."""
    if not total:
        return f"{phase}: …"
    return f"{phase}: {total:,} {unit}" + (f", {done:,} of them done before" if done else "")


def choose_display(as_json: bool) -> Display:
    """JSON lines when asked for; bars on a terminal that can move its cursor; plain lines
    everywhere else."""
    if as_json:
        return JsonDisplay()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", ""):
        from orchestrator.observe.bars import BarDisplay

        return BarDisplay()
    return PlainDisplay()


def _begin(tallies: dict[str, Tally], phase: str, total: int, unit: str, done: int) -> None:
    tally = tallies.get(phase)
    if tally is None:
        tallies[phase] = Tally(total, unit, done)
    else:
        tally.count(total, unit, done)
