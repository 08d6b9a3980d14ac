"""What a run looks like while it goes on: bars on a terminal, lines elsewhere, JSON on request."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orchestrator.observe import display as displays
from orchestrator.observe.bars import BarDisplay
from orchestrator.observe.display import Display, JsonDisplay, PlainDisplay, choose_display
from orchestrator.observe.tally import Tally

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def go_on(display: Display, tick: Callable[[], None]) -> None:
    """A small run: something waited for, shards, workers that start, steps, a checkpoint."""
    display.begin("start Ray")
    tick()
    display.finish("start Ray")
    display.begin("shard")
    tick()
    display.begin("shard", 8, "shards")
    for done in range(1, 9):
        tick()
        display.advance("shard", done, f"{done * 1.5:.1f} MB read")
    display.finish("shard", "72,345 samples")
    display.begin("train", 200, "steps", 50)
    display.advance("train", 50, "starting 2 workers")
    tick()
    display.begin("train", 200, "steps", 50)
    for done in (100, 150, 200):
        tick()
        display.advance("train", done, f"loss {1 / done:.4f}")
        display.line(
            f"checkpoint: step {done}, val_loss 1.2345, val_accuracy 0.5 " + "and so on " * 5
        )
    display.finish("train")
    display.close()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_bars_never_wrap(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, legacy_windows=False)
    bars = BarDisplay(console)
    go_on(bars, lambda: bars._progress.refresh())
    drawn = [
        CONTROL.sub("", line)
        for line in re.split(r"[\r\n]", stream.getvalue())
        if "━" in line or "╸" in line
    ]
    assert len(drawn) >= 10
    assert max(map(len, drawn)) <= width


def test_a_bar_tells_count_rate_and_time_left() -> None:
    stream = io.StringIO()
    bars = BarDisplay(Console(file=stream, force_terminal=True, width=80, legacy_windows=False))
    go_on(bars, lambda: (time.sleep(0.01), bars._progress.refresh()))
    text = CONTROL.sub("", stream.getvalue())
    for pattern in (
        r"shard +[━╸╺]+ 4/8 shards +[\d.,]+/s +0 s, 0 s left · 6.0 MB read",
        r"train +[━╸╺]+ 50/200 steps +0 s · starting 2 workers",
        r"train +[━╸╺]+ 150/200 steps +[\d.,]+/s +0 s, 0 s left · loss 0.0",
    ):
        assert re.search(pattern, text), text


def test_what_is_over_stays_as_lines_in_order() -> None:
    """Nothing of a bar is left, whatever was drawn meanwhile."""
    screen = on_terminal(80, {"TERM": "xterm-256color"})
    assert "━" in screen
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") == 1  # the cursor is back
    last = CONTROL.sub("", screen.replace("\x1b[2K", "")).split("\r")[-1]
    assert "━" not in last
    lines = [line for line in CONTROL.sub("", screen).splitlines() if "━" not in line]
    told = [line.split(":")[0].split()[0] for line in lines if line.strip()]
    order = list(dict.fromkeys(told))
    assert order == ["start", "shard", "checkpoint", "train"], lines


def on_terminal(width: int, environment: dict[str, str]) -> str:
    """What a display that finds itself on a terminal of so many columns writes to it."""
    script = (
        "import time\n"
        "from tests.cli.test_cli_display import go_on\n"
        "from orchestrator.observe.display import choose_display\n"
        "go_on(choose_display(False), lambda: time.sleep(0.03))\n"
    )
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**kept, **environment, "COLUMNS": str(width), "LINES": "24"},
    )
    os.close(theirs)
    written = b""
    while chunk := _read(ours):
        written += chunk
    os.close(ours)
    assert process.wait(timeout=20) == 0
    return written.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


def test_no_color_is_respected() -> None:
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9;]+m")
    assert colours.search(on_terminal(80, {"TERM": "xterm-256color"}))
    assert not colours.search(on_terminal(80, {"TERM": "xterm-256color", "NO_COLOR": "1"}))


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    written = on_terminal(80, {"TERM": "dumb"})
    assert "\x1b" not in written
    assert "━" not in written
    assert "train: 200/200 steps in" in written


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(choose_display(False), PlainDisplay)
    assert isinstance(choose_display(True), JsonDisplay)


def test_plain_lines_tell_how_long_each_phase_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(displays.time, "monotonic", clock)
    monkeypatch.setattr(
        displays, "Tally", lambda total, unit, done: Tally(total, unit, done, clock)
    )

    def tick() -> None:
        clock.now += 3.0

    go_on(PlainDisplay(stream), tick)
    lines = [line for line in stream.getvalue().splitlines() if "checkpoint" not in line]
    assert lines == [
        "start Ray: …",
        "start Ray: 3.0 s",
        "shard: …",
        "shard: 8 shards",
        "shard: 2/8 shards, 0.3/s, 9 s, 18 s left, 3.0 MB read",
        "shard: 4/8 shards, 0.3/s, 15 s, 12 s left, 6.0 MB read",
        "shard: 6/8 shards, 0.3/s, 21 s, 6 s left, 9.0 MB read",
        "shard: 8/8 shards, 0.3/s, 27 s, 0 s left, 12.0 MB read",
        "shard: 8/8 shards in 27 s, 0.3/s; 72,345 samples",
        "train: 200 steps, 50 of them done before",
        "train: 150/200 steps, 16.7/s, 9 s, 3 s left, loss 0.0067",
        "train: 200/200 steps in 12 s, 16.7/s",
    ]


def test_json_lines_tell_the_same() -> None:
    stream = io.StringIO()
    display = JsonDisplay(stream)
    display.advance("never begun", 3)
    display.finish("never begun")
    display.event({"kind": "step", "step": 1, "loss": 2.5})
    go_on(display, lambda: None)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0] == {"kind": "step", "step": 1, "loss": 2.5}
    assert lines[1] == {"kind": "phase", "phase": "start Ray", "total": 0, "unit": "", "done": 0}
    done = {line["phase"]: line for line in lines if line["kind"] == "phase-done"}
    assert {name: (line["done"], line["total"]) for name, line in done.items()} == {
        "start Ray": (0, 0),
        "shard": (8, 8),
        "train": (200, 200),
    }
    assert all(line["seconds"] >= 0 for line in done.values())
    assert done["shard"]["note"] == "72,345 samples"
    last = [line for line in lines if line["kind"] == "progress"][-1]
    assert (last["phase"], last["done"], last["note"]) == ("train", 200, "loss 0.0050")


def test_a_phase_that_was_cut_short_does_not_claim_to_be_done() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    display.begin("train", 4000, "steps")
    display.advance("train", 120)
    display.finish("train")
    assert stream.getvalue().splitlines()[-1].startswith("train: 120/4,000 steps in ")


def test_waiting_for_workers_does_not_slow_the_rate_down() -> None:
    clock = Clock()
    tally = Tally(300, "steps", 100, clock)
    assert (tally.rate_text(), tally.time_text()) == ("", "0 s")
    clock.now += 10
    assert tally.time_text() == "10 s"
    tally.count(300, "steps", 100)
    clock.now += 2
    tally.advance(150)
    assert tally.count_text() == "150/300 steps"
    assert tally.rate_text() == "25.0/s"
    assert tally.time_text() == "12 s, 6 s left"
    clock.now += 1
    assert tally.time_text() == "13 s, 5 s left"
    assert tally.closing_text("stopped") == "150/300 steps in 13 s, 25.0/s; stopped"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1:00"), (185, "3:05"), (4800, "1:20:00")]
)
def test_times_beside_a_bar_are_short(seconds: float, text: str) -> None:
    clock = Clock()
    tally = Tally(0, "", 0, clock)
    clock.now += seconds
    assert tally.time_text() == text


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [(1, 60, "1.0/min"), (30, 60, "0.5/s"), (123_456, 60, "2,058/s"), (0, 60, "")],
)
def test_rates_in_words(done: int, seconds: float, text: str) -> None:
    clock = Clock()
    tally = Tally(200_000, "steps", 0, clock)
    clock.now += seconds
    tally.advance(done)
    assert tally.rate_text() == text


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(-5, 10**6), st.floats(0, 1e6)), max_size=8),
)
def test_a_tally_never_fails_and_never_has_less_than_nothing_left(
    total: int, moves: list[tuple[int, float]]
) -> None:
    clock = Clock()
    tally = Tally(total, "steps", 0, clock)
    for done, seconds in moves:
        clock.now += seconds
        tally.advance(done)
        assert tally.elapsed_seconds >= 0
        assert tally.left_seconds is None or tally.left_seconds >= 0
        assert "\n" not in tally.closing_text() + tally.time_text() + tally.rate_text()
