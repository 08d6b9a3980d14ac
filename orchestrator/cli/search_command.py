"""``axis search``: which way of distributing a model over a cluster is best?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from orchestrator.cli.estimate_command import read_values
from orchestrator.errors import PlanError, Problem
from orchestrator.planner.cost.estimate import parse_specs
from orchestrator.planner.cost.search import Metric, search
from orchestrator.planner.cost.search_text import result_text, result_view

METRICS: tuple[Metric, ...] = ("throughput", "cost", "memory")


def show_search(
    path: str, metric: str, device_counts: Sequence[int], top: int, as_json: bool
) -> None:
    """Read one specification, search what it leaves open and print the ``top`` best.

    Raises ``PlanError`` for what is wrong and ``InfeasibleError`` where nothing fits.
    """
    chosen = next((known for known in METRICS if known == metric), None)
    if chosen is None:
        what = f'there is no metric "{metric}"'
        raise PlanError([Problem("--by", what, works=", ".join(METRICS))], "axis search")
    specs = parse_specs(read_values(path), path)
    if len(specs) != 1:
        what = f"a search begins with one specification, not {len(specs)}"
        raise PlanError([Problem("specification", what)], path)
    result = search(specs[0], chosen, device_counts, path)
    if as_json:
        typer.echo(json.dumps(result_view(result, top), indent=2))
    else:
        typer.echo(result_text(result, top))
