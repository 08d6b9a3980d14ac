"""Can a checkpoint of this plan ever be promoted, and the right one?"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.plan.inference import Gate, Promote
from orchestrator.plan.plan import Plan
from orchestrator.plan.wording import nearest

_PREFIX = "val_"
_PROMOTE = "inference.promote"


def check_promotion(plan: Plan) -> Iterator[Problem]:
    """The metrics exist, the gate can be met, and there is something to evaluate."""
    if plan.inference is None:
        return
    promote = plan.inference.promote
    yield from _check_metric(f"{_PROMOTE}.metric", promote.metric)
    yield from _check_evaluation(plan, promote)
    yield from _check_direction(promote)
    if promote.when is not None:
        yield from _check_metric(f"{_PROMOTE}.when.metric", promote.when.metric)
        yield from _check_gate(promote.when)


def _check_metric(where: str, metric: str) -> Iterator[Problem]:
    if metric.startswith(_PREFIX) and metric != _PREFIX:
        return
    guess = nearest(metric, ["val_loss", "val_accuracy"], 1)
    bare = metric.removeprefix("val").lstrip("_-. ") or "loss"
    yield Problem(
        where,
        f'"{metric}" is not measured by evaluation, whose metrics start with {_PREFIX}',
        works=guess[0] if guess else f"{_PREFIX}{bare}",
    )


def _check_gate(gate: Gate) -> Iterator[Problem]:
    where = f"{_PROMOTE}.when"
    if gate.below is None and gate.above is None:
        yield Problem(
            where,
            f"bounds {gate.metric} neither from below nor from above",
            works=f"{where}.below=… or {where}.above=…",
        )
    if gate.below is not None and gate.above is not None and gate.above >= gate.below:
        yield Problem(
            where,
            f"no {gate.metric} is above {gate.above:g} and below {gate.below:g}",
            f"{gate.above:g} ≥ {gate.below:g}",
            "only one of the two, or above < below",
        )


def _check_evaluation(plan: Plan, promote: Promote) -> Iterator[Problem]:
    wanted = f"{_PROMOTE}.when asks for" if promote.when else f"{_PROMOTE} ranks checkpoints by"
    metric = promote.when.metric if promote.when else promote.metric
    if plan.training.evaluate.samples == 0:
        yield Problem(
            "training.evaluate.samples",
            f"evaluation is off, but {wanted} {metric}",
            works="training.evaluate.samples=512, or without inference",
        )
    if plan.data.holdout == 0:
        yield Problem(
            "data.holdout",
            f"no samples are held out for evaluation, but {wanted} {metric}",
            works="data.holdout=0.05, or without inference",
        )


def _check_direction(promote: Promote) -> Iterator[Problem]:
    """The gate and the ranking must want the same metric to move the same way."""
    gate = promote.when
    wanted = {"val_loss": "min", "val_accuracy": "max"}.get(promote.metric)
    if gate is not None and gate.metric == promote.metric:
        if gate.above is not None and gate.below is None:
            wanted = "max"
        if gate.below is not None and gate.above is None:
            wanted = "min"
    if wanted is None or wanted == promote.mode:
        return
    worse = "smallest" if promote.mode == "min" else "largest"
    yield Problem(
        f"{_PROMOTE}.mode",
        f"mode {promote.mode} serves the checkpoint with the {worse} {promote.metric}, the worst",
        works=f"{_PROMOTE}.mode={wanted}",
    )
