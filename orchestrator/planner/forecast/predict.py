"""What will a plan's training take on so many workers? One estimate, in the words of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import PlanError
from orchestrator.plan.cadence import daly_interval
from orchestrator.plan.plan import Plan
from orchestrator.plan.refusal import Refusal
from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.device import Device
from orchestrator.planner.cost.estimate import Estimate, estimate_resolved
from orchestrator.planner.cost.parameters import Stage, stage_parameters
from orchestrator.planner.cost.passes import layer_passes, output_passes
from orchestrator.planner.forecast.asked import (
    crowding,
    nodes_needed,
    resolve_plan,
    spec_values,
)
from orchestrator.planner.forecast.lines import Line, Totals, table
from orchestrator.planner.forecast.parts import Limit, Parts, limit
from orchestrator.transformer import Transformer

ASSUMED_WRITE = 100e6
"""Bytes per second that a worker writes where the hardware file does not say (``plan.cadence``)."""

STATE_BYTES = {"adamw": 12, "sgd": 8}
"""Of a checkpoint for each parameter: itself and what the optimizer keeps, in fp32."""

_LEAST_PAUSE_SECONDS = 1e-3


@dataclass(frozen=True)
class Prediction:
    """What is expected of ``workers`` workers; ``spec`` is what ``axis estimate`` would be asked,
    ``crowding`` how many threads share a core, ``nodes`` how many nodes hold the workers."""

    workers: int
    estimate: Estimate
    totals: Totals
    limit: Limit
    crowding: float
    nodes: int
    spec: Mapping[str, Any]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The table, nothing measured yet."""
        return table(self.totals, None)


@dataclass(frozen=True)
class NoPrediction:
    """Why nothing is predicted, and what would change that."""

    reason: str
    works: str

    @property
    def sentence(self) -> str:
        """Both, as they are told."""
        return f"no prediction: {self.reason}; works: {self.works}"


def predict(
    plan: Plan, model: Transformer | None, workers: int, device: Device | None
) -> Prediction | NoPrediction:
    """Predict, or say why not. Never raises for what a plan, a Job or a device may say."""
    if device is None:
        return NoPrediction(
            "this machine is not described",
            "axis calibrate, which measures it in about a minute, or --hardware NAME",
        )
    if model is None:
        return NoPrediction(
            f"{plan.job} does not say how large its model is",
            "def transformer(self): return Transformer(layers=…, hidden=…, …) in the Job, if its "
            "model is one",
        )
    mismatch = _mismatch(plan, device)
    if mismatch is not None:
        return mismatch
    try:
        resolved = resolve_plan(plan, model, workers, device)
    except PlanError as error:
        said = "; ".join(problem.sentence() for problem in error.problems)
        return NoPrediction(f"the cost model does not know such a case: {said}", "another mesh")
    except Refusal as refusal:
        return NoPrediction(
            f"{workers} workers are none that the plan can have: {refusal}",
            "another number of workers",
        )
    found = estimate_resolved(resolved)
    pause = pause_seconds(plan, found.case)
    totals = _totals(plan, found, pause, workers, device)
    spec = spec_values(plan, model, workers, device)
    shared = crowding(plan, workers, device) if device.kind == "cpu" else 1.0
    nodes = nodes_needed(plan, workers, device)
    return Prediction(workers, found, totals, limit(totals.parts), shared, nodes, spec)


def _mismatch(plan: Plan, device: Device) -> NoPrediction | None:
    """Workers compute on GPUs where they reserve some, else on cores."""
    gpu = plan.training.resources.gpu
    if device.kind == "gpu" and not gpu:
        reason = f"{device.name} is a GPU, and training.resources.gpu is 0"
        return NoPrediction(reason, "training.resources.gpu=1, or a hardware file of processors")
    if device.kind == "cpu" and gpu:
        reason = f"{device.name} is a processor, and training.resources.gpu is {gpu:g}"
        return NoPrediction(reason, "training.resources.gpu=0, or a hardware file of GPUs")
    return None


def parts_of(found: Estimate, checkpoint_seconds: float) -> Parts:
    """The estimate in the parts of a run; ``checkpoint_seconds`` is a step's share."""
    time = found.time
    split = {name: e.exposed for name, e in time.communication.items() if e.exposed > 0}
    return Parts(
        compute=time.compute + time.optimizer,
        communication=time.exposed,
        waiting=time.bubble + time.straggling,
        data=time.data,
        checkpoint=checkpoint_seconds,
        by_dimension=split,
    )


def _totals(plan: Plan, found: Estimate, pause: float, workers: int, device: Device) -> Totals:
    steps = plan.training.steps
    count = steps / interval_steps(plan, found.time.total, pause)
    parts = parts_of(found, count * pause / steps)
    price = worker_price(plan, workers, device)
    seconds = steps * parts.whole
    work = found.case.work
    return Totals(
        parts=parts,
        tokens_per_second=work.global_batch * work.seq_len / parts.step,
        training_seconds=seconds,
        memory_bytes=found.memory.peak,
        cost=None if price is None else price * workers * seconds / 3600.0,
    )


def worker_price(plan: Plan, workers: int, device: Device | None) -> float | None:
    """Of one of ``workers`` for an hour: what the plan says, else of the cores that it keeps busy,
    or of its devices."""
    price = plan.coordination.price_per_hour
    if price is not None or device is None or device.price_per_hour is None:
        return price
    if device.kind == "cpu":
        return device.price_per_hour * plan.training.threads / crowding(plan, workers, device)
    return device.price_per_hour * plan.training.resources.gpu


def interval_steps(plan: Plan, step_seconds: float, pause: float) -> float:
    """Steps from one checkpoint to the next; the last step always has one. ``auto`` is Daly's
    interval at the plan's mean time between failures."""
    settings, steps = plan.coordination.checkpoint, plan.training.steps
    if settings.every != "auto":
        return steps / -(-steps // settings.every)
    interval = daly_interval(settings.mtbf, max(pause, _LEAST_PAUSE_SECONDS))
    return min(float(steps), max(1.0, interval / step_seconds))


def pause_seconds(plan: Plan, case: Case) -> float:
    """For how long training stands still at a checkpoint: the evaluation, and taking the state.

    Asynchronously that is a copy in memory, read and written; else the whole write.
    """
    return evaluation_seconds(plan, case) + _saving_seconds(plan, case)


def evaluation_seconds(plan: Plan, case: Case) -> float:
    """Forward passes over the held-out samples that are evaluated."""
    samples = plan.training.evaluate.samples if plan.data.holdout else 0
    rounds = -(-samples // (case.degrees.batch * case.work.micro_batch))
    layer, output = layer_passes(case), output_passes(case)
    return rounds * (case.shape.layers * layer.forward_seconds + output.forward)


def _saving_seconds(plan: Plan, case: Case) -> float:
    held = stage_parameters(case, Stage(case.shape.layers, True, True)).total / case.degrees.pp
    ranks = case.degrees.shard_group if case.work.sharding == "full" else 1
    size = held * STATE_BYTES[case.work.optimizer] / ranks
    device = case.cluster.device
    if plan.coordination.checkpoint.asynchronous:
        return 2.0 * size / device.memory_bandwidth
    return size / (device.disk.write if device.disk is not None else ASSUMED_WRITE)
