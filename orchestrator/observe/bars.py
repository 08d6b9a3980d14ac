"""How does a run look on a terminal while it goes on?

One bar for each phase under way, with rate and time left; what is over becomes a line above, in
the order in which it happened. Bars shrink with the terminal and never wrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from orchestrator.observe.tally import Tally

_NAME_WIDTH = 9
_WIDEST_BAR, _NARROWEST_BAR = 28, 8
_BESIDE_THE_BAR = 66
"""Characters of all other columns, the note not at its longest."""


class BarDisplay:
    """Bars on standard error, lines above them."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        room = self._console.width - _BESIDE_THE_BAR
        bar_width = max(_NARROWEST_BAR, min(_WIDEST_BAR, room))
        self._progress = Progress(
            _Told("name", Column(no_wrap=True, min_width=_NAME_WIDTH)),
            BarColumn(bar_width=bar_width, table_column=Column(no_wrap=True)),
            _Told("count", Column(no_wrap=True)),
            _Told("rate", Column(no_wrap=True), style="progress.data.speed"),
            _Told("time", Column(no_wrap=True)),
            _Told("note", Column(no_wrap=True, overflow="ellipsis"), style="dim"),
            console=self._console,
            refresh_per_second=5,
            transient=True,  # what is over is told by a line; nothing of a bar stays
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.start()
        self._tasks: dict[str, tuple[TaskID, Tally]] = {}

    def begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        """A bar appears; one without a count pulses."""
        if phase in self._tasks:
            task, tally = self._tasks[phase]
            tally.count(total, unit, done)
            self._progress.update(task, total=total or None, completed=done, note="")
            return
        tally = Tally(total, unit, done)
        task = self._progress.add_task(
            phase, total=total or None, completed=done, tally=tally, note=""
        )
        self._tasks[phase] = (task, tally)

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """The bar moves."""
        if phase in self._tasks:
            task, tally = self._tasks[phase]
            tally.advance(done)
            self._progress.update(task, completed=done, note=note)

    def finish(self, phase: str, note: str = "") -> None:
        """The bar becomes a line."""
        if phase in self._tasks:
            task, tally = self._tasks.pop(phase)
            self._progress.remove_task(task)
            self.line(f"{phase:<{_NAME_WIDTH}} {tally.closing_text(note)}")

    def line(self, text: str) -> None:
        """A line above the bars; the terminal wraps it if it must."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def event(self, fields: Mapping[str, Any]) -> None:
        """Nothing: events are for programs."""

    def close(self) -> None:
        """No bar stays, and the cursor is back."""
        self._progress.stop()


class _Told(ProgressColumn):
    """One column of text, from the task's tally at the moment of drawing."""

    max_refresh = None

    def __init__(self, what: str, table_column: Column, style: str = "") -> None:
        super().__init__(table_column=table_column)
        self._what = what
        self._style = style

    def render(self, task: Task) -> Text:
        """The text of this column for one bar."""
        return Text(self._text(task), style=self._style, no_wrap=True, overflow="ellipsis")

    def _text(self, task: Task) -> str:
        tally: Tally = task.fields["tally"]
        match self._what:
            case "name":
                return task.description
            case "count":
                return tally.count_text()
            case "rate":
                return tally.rate_text()
            case "time":
                return tally.time_text()
            case _:
                note = task.fields["note"]
                return f"· {note}" if note else ""
