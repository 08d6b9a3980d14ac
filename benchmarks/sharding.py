"""How fast is a corpus sharded? The orchestrator beside the same pipeline by hand in Ray Data.

The standard library's sources as ``configs/gpt-stdlib.yaml`` cuts them, two tasks at a time. Warm:
repetitions alternate in one connected process, whose tasks find their imports done. Cold: each
measurement has a process of its own, as a single run has, and tasks import what they need. What
was written is deleted in between. All contenders must write the same number of samples.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import training_plan, write_plan
from benchmarks.workplace import MeasurementFailed, Workplace, say

CPUS = 4
"""Logical ones: the reservation holds some, and two tasks by hand need one each beside it."""
GOAL = 0.95
ARROW, PARQUET = "Ray Data by hand, Arrow", "Ray Data by hand, write_parquet"


def measure(place: Workplace) -> Outcome:
    """Source bytes per second of all of them."""
    warm_runs, cold_runs = place.size(7, 2), place.size(3, 1)
    plan = write_plan(place, training_plan(place, "gpt-stdlib", "sharding", 1))
    host = ("-m", "benchmarks.sharding_host", str(plan))
    with place.host("-m", "benchmarks.cluster", str(CPUS)) as cluster:
        where = (cluster["address"], str(place.folder))
        say("warm: all in one process")
        out = place.python(*host, *where, str(warm_runs + 1), timeout_seconds=600)
        warm = _by_name(out)
        cold: dict[str, list[dict[str, Any]]] = {name: [] for name in warm}
        for turn in range(cold_runs):
            say(f"cold: repetition {turn + 1} of {cold_runs}")
            for name in cold if turn % 2 == 0 else reversed(cold):
                cold[name] += _by_name(place.python(*host, *where, "1", name))[name]
    counts = {m["num_samples"] for series in (*warm.values(), *cold.values()) for m in series}
    if len(counts) != 1:
        raise MeasurementFailed(f"the contenders wrote different numbers of samples: {counts}")
    rates = {name: _rates(series[1:]) for name, series in warm.items()}
    cold_rates = {name: _rates(series) for name, series in cold.items()}
    return Outcome(
        "Sharding: the standard library's sources into samples",
        [
            Comparison("sharding, warm", "MB/s", rates["axis"], rates["arrow"], ARROW, GOAL),
            Comparison("sharding, warm", "MB/s", rates["axis"], rates["parquet"], PARQUET),
            Comparison(
                "sharding, a process's first",
                "MB/s",
                cold_rates["axis"],
                cold_rates["arrow"],
                ARROW,
            ),
        ],
        settings={"plan": "configs/gpt-stdlib.yaml", "tasks": 2, "cluster_cpus": CPUS},
        extras={
            "num_samples": counts.pop(),
            "source_bytes": warm["axis"][0]["num_bytes"],
            "seconds": {name: [m["seconds"] for m in series[1:]] for name, series in warm.items()},
        },
        notes=[
            "axis hashes its shards, makes them durable and writes a manifest; by hand they are "
            "written and renamed",
        ],
    )


def _by_name(out: str) -> dict[str, list[dict[str, Any]]]:
    series: dict[str, list[dict[str, Any]]] = {}
    for line in out.splitlines():
        if line.startswith("{"):
            measured = json.loads(line)
            series.setdefault(measured["name"], []).append(measured)
            say(f"{measured['name']}: {measured['seconds']:.2f} s")
    return series


def _rates(series: list[dict[str, Any]]) -> list[float]:
    return [measured["num_bytes"] / 1e6 / measured["seconds"] for measured in series]
