"""How is a search read by a person, and by a program?"""

from __future__ import annotations

from typing import Any

from orchestrator.planner.cost.estimate_text import seconds, shown_default
from orchestrator.planner.cost.search import Found, SearchResult

_COLUMNS = ("STEP", "TOKENS/S", "MEMORY", "MESH", "MICRO", "RECOMPUTE", "SHARDING", "CHUNKS")


def result_view(result: SearchResult, top: int) -> dict[str, Any]:
    """Plain values for JSON: the ``top`` best, the Pareto front, and what was left out."""
    return {
        "metric": result.metric,
        "considered": result.considered,
        "estimated": result.estimated,
        "feasible": len(result.ranked),
        "ranked": [found_view(found) for found in result.ranked[:top]],
        "pareto": [found_view(found) for found in result.pareto],
        "infeasible": [
            {"count": part.count, "reason": part.reason, "example": part.example}
            for part in result.refused
        ],
        "defaults": dict(result.defaults),
    }


def found_view(found: Found) -> dict[str, Any]:
    """One candidate as plain values."""
    degrees, work = found.case.degrees, found.case.work
    names = ("dp", "fsdp", "tp", "pp", "cp", "ep")
    view: dict[str, Any] = {
        "mesh": {name: getattr(degrees, name) for name in names},
        "training": {
            "micro_batch": work.micro_batch,
            "recompute": work.recompute,
            "sharding": work.sharding,
            "schedule": work.schedule,
            "virtual_stages": work.virtual_stages,
            "sequence_parallel": work.sequence_parallel,
        },
        "devices": degrees.size,
        "step_seconds": found.time.total,
        "tokens_per_second": 1.0 / found.seconds_per_token,
        "peak_bytes": round(found.memory.peak),
        "bubble_fraction": found.time.bubble_fraction,
    }
    if found.cost_per_million_tokens is not None:
        view["cost_per_million_tokens"] = found.cost_per_million_tokens
    return view


def result_text(result: SearchResult, top: int) -> str:
    """The best candidates as a table, the Pareto front, and what was left out."""
    best = result.ranked[0]
    head = (
        f"best by {result.metric}: {best.case.degrees} — {len(result.ranked)} of "
        f"{result.considered} configurations fit, {result.estimated} estimated in full"
    )
    lines = [head, "", *_table(result.ranked[:top])]
    lines += ["", f"none beats these in time, cost and memory at once ({len(result.pareto)}):"]
    lines += ["", *_table(result.pareto[:top])]
    if result.refused:
        lines += ["", "left out:"]
        lines += [f"  {p.count} × {p.reason}, such as {p.example}" for p in result.refused]
    if result.defaults:
        listed = ", ".join(
            f"{name} {shown_default(name, value)}" for name, value in result.defaults.items()
        )
        lines += ["", f"defaults used: {listed}"]
    return "\n".join(lines)


def _table(listed: tuple[Found, ...]) -> list[str]:
    rows = [_COLUMNS, *(_row(found) for found in listed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(found: Found) -> tuple[str, ...]:
    work = found.case.work
    return (
        seconds(found.time.total),
        f"{1 / found.seconds_per_token:,.0f}",
        f"{found.memory.peak / 1e9:.1f} GB",
        str(found.case.degrees),
        str(work.micro_batch),
        work.recompute,
        work.sharding,
        str(work.virtual_stages),
    )
