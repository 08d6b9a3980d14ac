"""``python -m benchmarks [NAME…] [--quick]``: measure, print the tables, write the JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, Outcome, render, table
from benchmarks.machine import machine, versions
from benchmarks.workplace import MeasurementFailed, Workplace, say

NAMES = (
    "training",
    "first_step",
    "loader",
    "sharding",
    "serving",
    "meshes",
    "checkpoints",
    "journal",
    "placement",
    "recovery",
    "oversight",
)
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all; 1 when one of them could not be carried out.

    A goal that is missed is shown as such and is no failure.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = [name for name in NAMES if name in options.names] or list(NAMES)
    # Figures of small sizes must not take the place of real ones.
    folder = options.output or (None if options.quick else RESULTS)
    comparisons: list[Comparison] = []
    failed = []
    with Workplace(options.quick) as place:
        for name in names:
            began = time.monotonic()
            say(f"--- {name}")
            try:
                outcome = importlib.import_module(f"benchmarks.{name}").measure(place)
            except MeasurementFailed as error:
                failed.append(name)
                say(f"{name} could not be measured: {error}")
                continue
            say(f"--- {name}: {time.monotonic() - began:.0f} s")
            print(f"{render(outcome)}\n", flush=True)
            if folder is not None:
                write(folder, name, outcome, options.quick)
            comparisons += outcome.comparisons
    if len(names) > 1 and comparisons:
        print(f"## All that has a goal\n\n{table([c for c in comparisons if c.goal is not None])}")
    if failed:
        say(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


def write(folder: Path, name: str, outcome: Outcome, quick: bool) -> None:
    """Write one outcome as ``<folder>/<name>.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(name, outcome, quick), indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")


def to_json(name: str, outcome: Outcome, quick: bool) -> dict[str, Any]:
    """An outcome with all that is needed to judge it."""
    command = ["python", "-m", "benchmarks", name, *(["--quick"] if quick else [])]
    return {
        "benchmark": name,
        "title": outcome.title,
        "command": shlex.join(command),
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "settings": dict(outcome.settings),
        "comparisons": [comparison.to_dict() for comparison in outcome.comparisons],
        "extras": dict(outcome.extras),
        "notes": list(outcome.notes),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; or all")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: does it work? Figures mean little"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="where the JSON goes (default: benchmarks/results; nowhere with --quick)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
