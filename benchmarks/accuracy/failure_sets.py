"""How is what is published of failures asked of the planner: best intervals, times to failure,
effective training time?"""

from __future__ import annotations

import re

from benchmarks.accuracy.published import Row, count, number, rows
from benchmarks.accuracy.scores import Pair
from orchestrator.plan.cadence import daly_interval
from orchestrator.planner.failure import (
    effective_training_time_ratio,
    mean_time_to_failure,
)

TABLE = "failures.csv"
MINUTE, HOUR = 60.0, 3600.0
_RATES = {"RSC-1": 6.5, "Llama 3": 3.789}
"""Failures per 1000 node-days, of the same table (F0028, F0029)."""
_DEVICES_PER_NODE = 8
_RESTART_SECONDS = 10 * MINUTE


def daly_pairs() -> list[Pair]:
    """Daly's worked optima, in minutes, to the digits that are printed (117, 57 and 9.1)."""
    found = []
    for row in rows(TABLE, "daly_worked"):
        given = dict(re.findall(r"(\w+)=(\d+) min", _text(row)))
        if not {"M", "delta"} <= set(given):
            continue
        mttf, cost = (float(given[name]) * MINUTE for name in ("M", "delta"))
        printed = row["value"]
        digits = len(printed.partition(".")[2])
        minutes = round(daly_interval(mttf, cost) / MINUTE, digits)
        found.append(Pair(row["id"], minutes, number(row, "value")))
    return found


def mttf_pairs() -> list[Pair]:
    """1 / (nodes · rate), in hours, at the published rate of the fleet."""
    found = []
    for row in rows(TABLE, "meta_rsc"):
        if "MTTF predicted" in row["metric"]:
            nodes = count(row, "n_gpus") / _DEVICES_PER_NODE
            hours = mean_time_to_failure(nodes, _RATES["RSC-1"]) / HOUR
            found.append(Pair(row["id"], hours, number(row, "value")))
    return found


def ettr_pairs() -> list[Pair]:
    """Effective training time at two checkpoint intervals, restarts of ten minutes."""
    found = []
    for row in rows(TABLE, "ettr_worked"):
        interval = re.search(r"dt_cp=(\d+) min", _text(row))
        fleet = next((name for name in _RATES if name in row["system"]), None)
        if interval is None or fleet is None:
            continue
        share = effective_training_time_ratio(
            count(row, "n_gpus") / _DEVICES_PER_NODE,
            _RATES[fleet],
            float(interval[1]) * MINUTE,
            _RESTART_SECONDS,
        )
        found.append(Pair(row["id"], share, number(row, "value")))
    return found


def _text(row: Row) -> str:
    return f"{row['metric']} {row['category']}"
