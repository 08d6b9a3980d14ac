"""Which change would help most, and by how much? And why not fewer workers, why not more?

Every answer is another prediction, never a rule of thumb.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers, nearest_counts
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.estimate_text import seconds
from orchestrator.planner.forecast.asked import nodes_needed
from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.forecast.predict import Prediction, predict
from orchestrator.planner.scaling import honest_worker_count, scaling_curve
from orchestrator.transformer import Transformer

WORTH = 0.02
"""A gain below this is not worth a change: runs differ by as much."""


@dataclass(frozen=True)
class Change:
    """One change of a plan, as the command line takes it, and by how much it shortens training
    (0.2: by a fifth); ``at_most`` where it takes away what something else would take its place."""

    what: str
    gain: float
    at_most: bool = False

    @property
    def sentence(self) -> str:
        """As it is told."""
        how = "at most " if self.at_most else ""
        return f"{self.what}: {how}{self.gain:.0%} less time for each step"


def best_change(
    plan: Plan, model: Transformer, found: Prediction, device: Device, parts: Parts
) -> Change | None:
    """The change that shortens ``parts`` most, by prediction; ``None`` where none is worth it.

    ``parts`` are those of the prediction, or of a run: gains are ratios of predictions, applied
    to what was measured.
    """
    candidates = [*_predicted(plan, model, found, device, parts), *_taken_away(plan, parts)]
    best = max(candidates, key=lambda change: change.gain, default=None)
    return best if best is not None and best.gain >= WORTH else None


def _predicted(
    plan: Plan, model: Transformer, found: Prediction, device: Device, parts: Parts
) -> Iterator[Change]:
    """Changes that the cost model can answer for."""
    now = parts.whole
    for what, changed, workers in _variants(plan, found.workers, device):
        other = predict(changed, model, workers, device)
        if isinstance(other, Prediction) and other.estimate.fits:
            then = _carried_over(parts, found.totals.parts, other.totals.parts)
            yield Change(what, 1.0 - then / now)


def _carried_over(parts: Parts, before: Parts, after: Parts) -> float:
    """Seconds of a step with ``parts`` after a change that is predicted to lead from ``before`` to
    ``after``: each part in the same ratio; waiting for samples stays."""
    total = parts.data
    for name in ("compute", "communication", "waiting", "checkpoint"):
        own, old, new = (float(getattr(each, name)) for each in (parts, before, after))
        total += own * new / old if old > 0 else own + new
    return total


def _variants(plan: Plan, workers: int, device: Device) -> Iterator[tuple[str, Plan, int]]:
    training = plan.training
    more = _neighbours(plan, workers)[1]
    if more is not None:
        nodes = nodes_needed(plan, more, device)
        there = nodes_needed(plan, workers, device)
        where = f", on {nodes} such nodes" if nodes > there else ""
        yield f"training.workers={more}{where}", _with_workers(plan, more), more
    threads = device.per_node // workers if device.kind == "cpu" else 0
    if threads > training.threads:
        changed = _changed(plan, training={"threads": threads})
        yield f"training.threads={threads}", changed, workers
    if device.kind == "gpu" and training.precision == "fp32":
        changed = _changed(plan, training={"precision": "bf16"})
        yield "training.precision=bf16", changed, workers
    if plan.model.activation_checkpoint != "none":
        changed = _changed(plan, model={"activation_checkpoint": "none"})
        yield "model.activation_checkpoint=none", changed, workers


def _taken_away(plan: Plan, parts: Parts) -> Iterator[Change]:
    """What would be gained if a wait were gone: no model says how much of it would."""
    every = plan.coordination.checkpoint.every
    if parts.checkpoint > 0 and every != "auto":
        gain = parts.checkpoint / 2 / parts.whole
        yield Change(f"coordination.checkpoint.every={2 * every}", gain)
    if parts.data > 0:
        what = f"training.prefetch={2 * plan.training.prefetch}, or faster storage"
        yield Change(what, parts.data / parts.whole, at_most=True)
    if parts.waiting > 0 and plan.model.pipeline == 1:
        what = (
            "workers that are equally fast, on cores that nobody else uses (axis status names "
            "slow ones)"
        )
        yield Change(what, parts.waiting / parts.whole, at_most=True)


@dataclass(frozen=True)
class Neighbours:
    """Why not fewer workers, why not more, and how many are still worth their price."""

    fewer: str
    more: str
    honest: str


def neighbours(plan: Plan, model: Transformer, found: Prediction, device: Device) -> Neighbours:
    """Both questions answered with predictions of the nearest numbers that the plan could have."""
    fewer, more = _neighbours(plan, found.workers)
    return Neighbours(
        fewer=_why_not_fewer(plan, model, found, device, fewer),
        more=_why_not_more(plan, model, found, device, more),
        honest=_honest(plan, model, found, device),
    )


def _neighbours(plan: Plan, workers: int) -> tuple[int | None, int | None]:
    near = {*nearest_counts(plan, workers), *legal_workers(plan)}
    below = [count for count in near if count < workers]
    above = [count for count in near if count > workers]
    return max(below, default=None), min(above, default=None)


def _at(plan: Plan, model: Transformer, device: Device, workers: int) -> Prediction | None:
    other = predict(_with_workers(plan, workers), model, workers, device)
    return other if isinstance(other, Prediction) else None


def _why_not_fewer(
    plan: Plan, model: Transformer, found: Prediction, device: Device, fewer: int | None
) -> str:
    if fewer is None:
        return "there is no smaller number that the mesh and the batch allow"
    other = _at(plan, model, device, fewer)
    if other is None:
        return f"nothing is predicted for {fewer}"
    if not other.estimate.fits:
        needed, there = other.estimate.memory.peak, device.memory_bytes
        return f"{_workers(fewer)} cannot hold it: {needed / 1e9:.3g} of {there / 1e9:.3g} GB"
    step, own = other.totals.parts.step, found.totals.parts.step
    spent = fewer * step / (found.workers * own)
    text = f"{_workers(fewer)} would take {seconds(step)} a step, {step / own:.2f} times as long"
    return f"{text}, for {spent:.2f} times the worker-hours"


def _why_not_more(
    plan: Plan, model: Transformer, found: Prediction, device: Device, more: int | None
) -> str:
    if more is None:
        return "there is no larger number that the mesh and the batch allow"
    other = _at(plan, model, device, more)
    if other is None:
        return f"nothing is predicted for {more}"
    step, own = other.totals.parts.step, found.totals.parts.step
    gained = (own / step - 1.0) * found.workers / (more - found.workers)
    text = f"{_workers(more)} would take {seconds(step)} a step, {own / step:.2f} times as fast"
    share = f"an added worker would bring {max(0.0, gained):.0%} of one"
    if other.crowding > max(1.0, found.crowding):
        share += f", for {other.crowding:g} threads would share a core"
    if other.nodes > found.nodes:
        share += f"; it takes {other.nodes} such nodes"
    return f"{text}: {share}"


def _honest(plan: Plan, model: Transformer, found: Prediction, device: Device) -> str:
    """The number of workers where one more stops paying, up to four times as many."""
    times: dict[int, float] = {}
    count: int | None = _smallest(plan, found.workers)
    while count is not None and count <= 4 * found.workers and len(times) < 12:
        other = _at(plan, model, device, count)
        if other is not None and other.estimate.fits:
            times[count] = other.totals.parts.step
        count = _neighbours(plan, count)[1]
    if not times:
        return ""
    honest = honest_worker_count(scaling_curve(times.__getitem__, times))
    return f"{_workers(honest)}: beyond, an added one brings less than half of one"


def _smallest(plan: Plan, workers: int) -> int:
    below = _neighbours(plan, workers)[0]
    while below is not None:
        workers, below = below, _neighbours(plan, below)[0]
    return workers


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count:,} workers"


def _with_workers(plan: Plan, workers: int) -> Plan:
    """The plan with another number of workers; an elastic one changes its mesh for those that it
    allows, which a fixed one does not."""
    if workers in legal_workers(plan):
        return plan
    return _changed(plan, training={"workers": workers})


def _changed(plan: Plan, **sections: dict[str, Any]) -> Plan:
    """The plan with some fields of some sections changed; checked anew."""
    values = plan.model_dump(mode="json")
    for section, fields in sections.items():
        values[section] = {**values[section], **fields}
    return Plan.model_validate_json(json.dumps(values))
