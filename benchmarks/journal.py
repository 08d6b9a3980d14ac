"""How long does it take to know where a run stands? A journal of a million events, read back.

Seconds and peak memory of a process that replays it through ``decide``: checksums, numbers, types
and every decision, as the coordinator does when it starts. Once as if it had never been compacted,
once as compacted along the way. Beside it, what one would write by hand: ``json.loads`` of every
line, nothing checked and nothing decided. Memory is held against that of a journal of a tenth of
the length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, Outcome
from benchmarks.workplace import MeasurementFailed, Workplace, say

HOST = "benchmarks.journal_host"
GOAL_SECONDS = 20.0
GOAL = "the goal of 20 s a million events"
BY_HAND = "json.loads of every line, unchecked"
SHORT = "a tenth of the events"
MEMORY_GOAL = 1.05

Figures = list[dict[str, Any]]


def measure(place: Workplace) -> Outcome:
    """Seconds and memory of reading both journals, and what they are held against."""
    num_events, runs = place.size(1_000_000, 20_000), place.size(3, 1)
    long, written = _written(place, "long", num_events)
    short, _ = _written(place, "short", num_events // 10)
    figures: dict[str, Figures] = {}
    for turn in range(runs):
        named = {
            "replay": ("read", long / "plain"),
            "by hand": ("by-hand", long / "plain"),
            "replay of a tenth": ("read", short / "plain"),
            "compacted": ("read", long / "compacted"),
            "compacted tenth": ("read", short / "compacted"),
        }
        for name, (what, folder) in named.items() if turn % 2 == 0 else reversed(named.items()):
            found = json.loads(place.python("-m", HOST, what, str(folder), timeout_seconds=600.0))
            figures.setdefault(name, []).append(found)
            say(f"{name}: {found['seconds']:.2f} s, peak {found['peak_mib']:.0f} MiB")
    _check(figures, num_events)
    goal = [GOAL_SECONDS * num_events / 1e6] * runs
    return Outcome(
        f"Journal: a replay of {num_events:,} events",
        [
            Comparison("replay", "s", _of(figures, "replay"), goal, GOAL, 1.0, False),
            _compared(figures, "replay", "by hand", "seconds", "s", BY_HAND),
            Comparison("compacted, replay", "s", _of(figures, "compacted"), goal, GOAL, 1.0, False),
            _compared(
                figures, "replay", "replay of a tenth", "peak_mib", "MiB", SHORT, MEMORY_GOAL
            ),
            _compared(
                figures, "compacted", "compacted tenth", "peak_mib", "MiB", SHORT, MEMORY_GOAL
            ),
        ],
        settings={"events": num_events, "runs": runs, "kinds": written["kinds"]},
        extras={
            "compaction_seconds": written["compaction_seconds"],
            **{name: each[-1] for name, each in figures.items()},
        },
        notes=[
            "peak memory includes the interpreter and its libraries "
            f"({figures['replay'][-1]['start_mib']:.0f} MiB before reading)"
        ],
    )


def _written(place: Workplace, name: str, num_events: int) -> tuple[Path, dict[str, Any]]:
    folder = place.folder / f"journal-{name}"
    folders = (str(folder / "plain"), str(folder / "compacted"))
    said = place.python("-m", HOST, "write", *folders, str(num_events), timeout_seconds=1800.0)
    say(f"{name}: {num_events:,} events are written")
    return folder, json.loads(said)


def _check(figures: dict[str, Figures], num_events: int) -> None:
    """All readers of one journal must have come to the same."""
    found = {
        (each["num_events"], each["step"])
        for name in ("replay", "compacted", "by hand")
        for each in figures[name]
    }
    if len(found) != 1 or next(iter(found))[0] != num_events:
        raise MeasurementFailed(f"readers of {num_events} events disagree: {sorted(found)}")


def _of(figures: dict[str, Figures], name: str, what: str = "seconds") -> list[float]:
    return [each[what] for each in figures[name]]


def _compared(
    figures: dict[str, Figures],
    ours: str,
    theirs: str,
    what: str,
    unit: str,
    against: str,
    goal: float | None = None,
) -> Comparison:
    name = f"{ours}, peak memory" if unit == "MiB" else ours
    values = _of(figures, ours, what), _of(figures, theirs, what)
    return Comparison(name, unit, *values, against, goal, more_is_better=False)
