"""A study as one page for a browser: no script, nothing from outside, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.study.charts import Series, Stack, line_chart, stack_chart
from orchestrator.planner.study.points import Study, study_head, study_rows

MARK = "<!-- written by axis study -->"
"""What every page begins with, so that a file which is none is never overwritten."""

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1f2933; --faint: #52606d; --paper: #ffffff; --grid: #dde3ea; --line: #c3cbd4;
  --measured: #1f6fb2; --predicted: #b4531f; --ideal: #7b8794;
  --compute: #1f6fb2; --communication: #b4531f; --waiting: #8a63b8; --data: #2f8f5b;
  --checkpoint: #c79a1b; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e4e9ef; --faint: #9fb0c0; --paper: #14191f; --grid: #2b343e; --line: #3b4651;
  --measured: #5aa9e6; --predicted: #e58a52; --ideal: #8797a6;
  --compute: #5aa9e6; --communication: #e58a52; --waiting: #b394dd; --data: #5cc08a;
  --checkpoint: #e0bc4a; } }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 60rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { font-size: 1.1rem; margin: .75rem 0; } .faint { color: var(--faint); margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; } th { font-weight: 600; color: var(--faint); }
.charts { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; }
.unit { color: var(--faint); font-weight: 400; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .2rem 0 0 12%;
  color: var(--faint); font-size: .85rem; }
.legend i { display: inline-block; width: 1.1rem; margin-right: .4rem; vertical-align: middle;
  border-top: .4rem solid currentColor; } .legend i.dashed { border-top: 2px dashed currentColor; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
"""

_PARTS = {
    "compute": "computing",
    "communication": "exchanging",
    "waiting": "waiting",
    "data": "samples",
    "checkpoint": "checkpoints",
}


def study_page(study: Study) -> str:
    """The whole page."""
    title = escape(f"Scaling study of {study.name}")
    missing = f'<p class="faint">{escape(study.no_prediction)}</p>' if study.no_prediction else ""
    return "\n".join(
        [
            "<!doctype html>",
            MARK,
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f'<p class="verdict">{escape(study.verdict)}</p>',
            missing,
            "<h2>Measured, and predicted before</h2>",
            _table(study),
            '<h2>Plots</h2><div class="charts">',
            *_charts(study),
            "</div>",
            "<h2>What was studied</h2>",
            _about(study),
            _reading(study),
            "</body></html>",
            "",
        ]
    )


def _table(study: Study) -> str:
    rows = study_rows(study)
    # A column in which nothing is known says nothing.
    words = study_head(study)
    shown = [i for i in range(len(words)) if any(row[i] != "–" for row in rows)]
    head = "".join(f"<th>{escape(words[i])}</th>" for i in shown)
    body = ["<tr>" + "".join(f"<td>{escape(row[i])}</td>" for i in shown) + "</tr>" for row in rows]
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        + "".join(body)
        + "</tbody></table></div>"
    )


def _charts(study: Study) -> list[str]:
    sizes, curve, guessed = study.sizes, study.curve, study.predicted_curve
    rates = tuple((size.workers, size.rate(size.measured)) for size in sizes)
    base = rates[0][1] / rates[0][0]
    throughput = [
        Series("linear", tuple((count, base * count) for count, _ in rates), "ideal", True),
        Series("measured", rates, "measured"),
    ]
    efficiency = [
        Series("linear", tuple((point.workers, 1.0) for point in curve), "ideal", True),
        Series("measured", tuple((p.workers, p.efficiency) for p in curve), "measured"),
    ]
    if guessed is not None:
        told = tuple((s.workers, s.rate(s.predicted)) for s in sizes if s.predicted is not None)
        throughput.append(Series("predicted", told, "predicted", True))
        shares = tuple((point.workers, point.efficiency) for point in guessed)
        efficiency.append(Series("predicted", shares, "predicted", True))
    charts = [
        line_chart("Throughput", f"{study.unit} per second", throughput, _short),
        line_chart("Efficiency", "share of linear speedup", efficiency, lambda v: f"{v:.0%}"),
        _where(study),
    ]
    costs = [(s.workers, s.cost_per_million) for s in sizes if s.cost_per_million is not None]
    if costs:
        priced = Series("measured", tuple(costs), "measured")
        charts.append(line_chart("Cost", f"of a million {study.unit}", [priced], _short))
    return charts


def _where(study: Study) -> str:
    stacks = []
    for size in study.sizes:
        stacks.append(Stack(str(size.workers), _heights(size.measured)))
        if size.predicted is not None:
            stacks.append(Stack(f"{size.workers} predicted", _heights(size.predicted)))
    return stack_chart(
        "Where a step goes", "seconds, checkpoints included", stacks, _PARTS, lambda v: f"{v:.3g}"
    )


def _heights(parts: Parts) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(getattr(parts, name))) for name in _PARTS)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:.3g}"


def _about(study: Study) -> str:
    rows: Sequence[tuple[str, str]] = study.about
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows) + "</dl>"


def _reading(study: Study) -> str:
    base = study.curve[0].workers
    times = f", times {base}" if base > 1 else ""
    return (
        '<h2>How to read it</h2><p class="faint">Each row is a real run of the same steps with the '
        "same global batch. Speedup is the time of a step on "
        f"{base} worker{'s' if base > 1 else ''} over that on as many as the row says{times}; "
        "efficiency is speedup over workers. Exchanging is what even the busiest worker "
        "of a step waited for the others, waiting is what slower workers made the others wait. "
        "Predictions were made before the runs.</p>"
    )
