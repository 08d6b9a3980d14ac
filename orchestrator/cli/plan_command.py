"""What would ``axis run`` do with this plan? Answered without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from orchestrator.coordinator.cadence import checkpoint_steps
from orchestrator.coordinator.gang import Gang, gang
from orchestrator.coordinator.preflight import format_bundle
from orchestrator.errors import PlanError
from orchestrator.plan.data import PythonSource
from orchestrator.plan.dump import dump_plan
from orchestrator.plan.load import LoadedPlan, load_plan
from orchestrator.plan.plan import Plan
from orchestrator.plan.resolve import resolved
from orchestrator.plan.static_job import check_targets


def show_plan(path: str, overrides: list[str], as_json: bool) -> None:
    """Load, check and print. Raises ``PlanError`` with everything that is wrong."""
    loaded = load_checked(path, overrides)
    plan = loaded.plan
    view = resolved(plan)
    view["bundles"] = [_bundles(plan, size["workers"]) for size in view["sizes"]]
    view["writes"] = _writes(plan)
    view["warnings"] = [*view["unsupported"], *_missing_paths(plan)]
    if as_json:
        typer.echo(json.dumps(view, indent=2))
        return
    typer.echo(_text(plan, view))


def load_checked(path: str, overrides: list[str]) -> LoadedPlan:
    """The plan, with the Job's module and class looked up without importing it."""
    loaded = load_plan(path, overrides)
    problems = check_targets(loaded.plan, Path.cwd())
    if problems:
        raise PlanError([loaded.locate(problem) for problem in problems], loaded.source)
    return loaded


def _text(plan: Plan, view: dict[str, Any]) -> str:
    inference = plan.inference
    steps = plan.training.steps
    committed = checkpoint_steps(steps, plan.coordination.checkpoint.every)
    lines = [
        f"axis plan {plan.name}  (sha256 {view['hash'][:12]})",
        "",
        f"data          {_source(plan)}, at most {plan.data.shards} shards, "
        f"{plan.data.tasks} data tasks at a time",
        f"training      {plan.job}, {steps} steps of {plan.training.global_batch} samples "
        f"= {view['num_samples_trained']:,} samples, {plan.training.precision}",
    ]
    for size, bundles in zip(view["sizes"], view["bundles"], strict=True):
        lines += _size_lines(size, bundles)
    lines.append(
        f"coordination  {len(committed)} checkpoints, after steps {_some(committed)}; "
        f"the newest {plan.coordination.checkpoint.keep} and the best are kept"
    )
    if inference is not None:
        lines.append(
            f"inference     {_span(inference.replicas)} replicas at "
            f"http://{inference.host}:{inference.port}/{plan.name}, the best by "
            f"{inference.promote.metric}{_gate(plan)}"
        )
    lines += ["", "what will be written:"]
    lines += [f"  {place:<44} {what}" for place, what in view["writes"].items()]
    lines += [f"warning: {warning}" for warning in view["warnings"]]
    lines += ["", "the resolved plan:", ""]
    lines += ["  " + line for line in dump_plan(plan).splitlines()]
    return "\n".join(lines)


def _size_lines(size: dict[str, Any], bundles: dict[str, Any]) -> list[str]:
    degrees = " · ".join(f"{name} {degree}" for name, degree in size["mesh"].items() if degree > 1)
    count = size["workers"]
    noun = "worker" if count == 1 else "workers"
    return [
        f"model         {count} {noun}: mesh {degrees or 'of one'}; each takes "
        f"{size['per_worker']} samples a step in {size['accumulation']} × {size['micro_batch']}",
        f"gang          {bundles['text']}",
    ]


def _bundles(plan: Plan, workers: int) -> dict[str, Any]:
    wanted = gang(plan, workers)
    return {
        "workers": workers,
        "bundles": [dict(bundle) for bundle in wanted.bundles],
        "strategy": wanted.strategy,
        "text": describe_gang(wanted),
    }


def describe_gang(wanted: Gang) -> str:
    """``2 × {CPU: 1}, PACK``: equal bundles counted together."""
    counts: dict[str, int] = {}
    for bundle in wanted.bundles:
        text = format_bundle(bundle)
        counts[text] = counts.get(text, 0) + 1
    parts = " + ".join(f"{count} × {text}" for text, count in counts.items())
    return f"{parts}, reserved together or not at all ({wanted.strategy})"


def _writes(plan: Plan) -> dict[str, str]:
    run = f"{plan.storage.rstrip('/')}/{plan.name}"
    return {
        f"{plan.storage.rstrip('/')}/_stores/": "sample stores, shared by the runs of this storage",
        f"{run}/plan.yaml": "this plan, resolved",
        f"{run}/journal/": "every event, by attempt",
        f"{run}/metrics/": "every step's figures, by attempt",
        f"{run}/checkpoints/": "committed checkpoints",
        f"{run}/logs/": "what driver and workers logged, by attempt",
        f"{run}/report.md": "the report of the last attempt",
    }


def _missing_paths(plan: Plan) -> list[str]:
    source = plan.data.source
    if isinstance(source, PythonSource) or ":" in source.path:
        return []
    if Path(source.path).expanduser().exists():
        return []
    return [f"data.source.path: there is no {source.path} on this machine"]


def _source(plan: Plan) -> str:
    source = plan.data.source
    if isinstance(source, PythonSource):
        return f"python {source.target}"
    return f"{source.kind} {source.path} {source.glob}"


def _span(span: Any) -> str:
    return f"{span.min} to {span.max}" if span.elastic else str(span.min)


def _gate(plan: Plan) -> str:
    gate = plan.inference.promote.when if plan.inference else None
    if gate is None:
        return ""
    bounds = [("below", gate.below), ("above", gate.above)]
    text = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    return f", if {gate.metric} is {text}"


def _some(steps: tuple[int, ...]) -> str:
    if len(steps) <= 5:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]}, … {steps[-1]}"
