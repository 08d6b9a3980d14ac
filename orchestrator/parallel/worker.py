"""What does one worker hold while it trains, and what can it do: step, evaluate, checkpoint?

When it does which is decided in ``loop``.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from orchestrator.errors import AxisError, Problem, ResumeRefused
from orchestrator.feed.cursor import Order
from orchestrator.feed.loader import Loader, StepBatch
from orchestrator.feed.store import SampleStore
from orchestrator.job import Batch
from orchestrator.parallel.channel import Channel, EvalRecord, Started, StepRecord
from orchestrator.parallel.checkpoint import load_state, save_state
from orchestrator.parallel.evaluate import evaluate
from orchestrator.parallel.figures import Figures
from orchestrator.parallel.manifest import CHECKPOINTS, CheckpointManifest, folder_name
from orchestrator.parallel.optimizer import build_optimizer
from orchestrator.parallel.pinned import pinned_empty
from orchestrator.parallel.schedule import learning_rate
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.parallel.step import Stepper, StepRules
from orchestrator.parallel.world import World, current_world, seed_all
from orchestrator.parallel.wrap import agree_on_buffers
from orchestrator.plan.dump import plan_hash
from orchestrator.plan.mesh import Mesh, batch_rank_of, resolve_mesh
from orchestrator.plan.sizes import BatchShape, batch_shape


@dataclass(frozen=True)
class _Underway:
    """A step whose figures are not read yet."""

    step: int
    figures: Figures
    rate: float
    step_seconds: float
    data_seconds: float
    batch: StepBatch


class Worker:
    """The parts of one worker's training, built and, where asked, loaded."""

    def __init__(self, setup: TrainSetup, channel: Channel) -> None:
        self.setup, self.channel, self.plan, self.job = setup, channel, setup.plan, setup.job
        training = self.plan.training
        self.world: World = current_world(setup.device)
        if self.world.device.type == "cpu":
            torch.set_num_threads(training.threads)
        self.mesh: Mesh = resolve_mesh(self.plan.model, self.world.size)
        self.shape: BatchShape = batch_shape(self.plan, self.world.size)
        self.batch_rank = batch_rank_of(self.mesh, self.world.rank)
        self.store = SampleStore.open(setup.store)
        self.order = Order(self.plan.seed, self.store.num_samples, self.plan.data.holdout)
        seed_all(self.plan.seed)
        self.model: nn.Module = self.job.model().to(self.world.device)
        self.optimizer = build_optimizer(self.model, training.optimizer)
        self.step, self.metrics, self.last = 0, dict[str, float](), setup.resume
        if setup.resume is not None:
            self._resume(setup.resume)
        rules = StepRules(
            self.plan.seed,
            self.shape.micro_batch,
            self.shape.accumulation,
            self.mesh.batch_degree,
            training.max_norm,
            training.precision == "bf16",
        )
        self.stepper = Stepper(self.job, self.model, self.optimizer, self.mesh, self.world, rules)
        # An accelerator works through a queue, which reading a step's own figures would drain.
        self.lag = 1 if self.world.device.type == "cuda" else 0
        self.underway: deque[_Underway] = deque()

    def _resume(self, folder: str) -> None:
        manifest = load_state(self.setup.run.child(folder), self.model, self.optimizer, self.world)
        self._check_same_samples(manifest, folder)
        self.step, self.metrics = manifest.step, dict(manifest.metrics)

    def _check_same_samples(self, manifest: CheckpointManifest, folder: str) -> None:
        """The position in the order of samples must mean what it meant."""
        expected = manifest.step * self.plan.training.global_batch
        same = (manifest.consumed, manifest.seed) == (expected, self.plan.seed)
        if same and manifest.store_hash == self.store.manifest.content_hash:
            return
        raise ResumeRefused(
            [
                Problem(
                    "data",
                    f"{folder} was trained on other samples, or in another order",
                    arithmetic=(
                        f"then: {manifest.consumed} samples, seed {manifest.seed}, store "
                        f"{manifest.store_hash[:16]}; now: {expected} samples, seed "
                        f"{self.plan.seed}, store {self.store.manifest.content_hash[:16]}"
                    ),
                    works="the data, seed and global batch that the run began with; or --fresh",
                )
            ]
        )

    def describe(self) -> Started:
        """What the outside may want to know before the first step."""
        return Started(
            rank=self.world.rank,
            num_workers=self.world.size,
            device=str(self.world.device),
            step=self.step,
            steps=self.plan.training.steps,
            num_train=self.order.num_train,
            num_holdout=self.order.num_holdout,
            num_parameters=sum(p.numel() for p in self.model.parameters()),
            **asdict(self.shape),
        )

    def loader(self) -> Loader:
        """Batches from the next step on."""
        return Loader(
            self.store,
            self.order,
            global_batch=self.plan.training.global_batch,
            batch_rank=self.batch_rank,
            batch_degree=self.mesh.batch_degree,
            micro_batch=self.shape.micro_batch,
            first_step=self.step,
            last_step=self.plan.training.steps,
            prefetch=self.plan.training.prefetch,
            allocate=pinned_empty if self.world.device.type == "cuda" else np.empty,
        )

    def take_step(self, loader: Loader) -> bool:
        """One optimizer step; whether a worker wants to stop, as far as that is known."""
        begun, stalled = time.perf_counter(), loader.stall_seconds
        batch = next(loader)
        data_seconds = loader.stall_seconds - stalled
        first = (self.step * self.mesh.batch_degree + self.batch_rank) * self.shape.per_worker
        training = self.plan.training
        rate = learning_rate(
            training.schedule, training.optimizer.lr, self.step + 1, training.steps
        )
        inputs = [self._on_device(columns) for columns in batch.micro_batches]
        stop = self.channel.stop_requested()
        figures = self.stepper.step(first, inputs, rate, stop)
        self.step += 1
        seconds = time.perf_counter() - begun
        self.underway.append(_Underway(self.step, figures, rate, seconds, data_seconds, batch))
        return self.read_figures(keep=self.lag)

    def read_figures(self, keep: int) -> bool:
        """Report all steps under way but the last ``keep``; whether a worker wants to stop."""
        stop = False
        while len(self.underway) > keep:
            done = self.underway.popleft()
            read = done.figures.read()
            record = StepRecord(
                step=done.step,
                loss=read.loss,
                weight=read.weight,
                grad_norm=read.gradient_norm,
                lr=done.rate,
                step_seconds=done.step_seconds,
                data_seconds=done.data_seconds,
                num_samples=self.plan.training.global_batch,
                ids=done.batch.ids,
            )
            self.channel.report(record)
            _check_finite(record)
            stop = stop or read.stop
        return stop

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out samples, reported; empty where the plan wants none."""
        ids = self.order.holdout_ids(self.plan.training.evaluate.samples)
        if not len(ids):
            return {}
        begun = time.perf_counter()
        metrics = evaluate(
            self.job,
            self.model,
            ids,
            lambda part: self._on_device(self.store.take(part)),
            self.shape.micro_batch,
            self.world,
            self.stepper.rules.bf16,
        )
        seconds = time.perf_counter() - begun
        self.channel.evaluated(EvalRecord(self.step, metrics, len(ids), seconds))
        return metrics

    def checkpoint(self, evaluating: bool) -> None:
        """Write the state and have it committed; returns on all workers when it exists."""
        agree_on_buffers(self.model, self.world)
        metrics = self.evaluate() if evaluating else {}
        self.channel.saving()
        begun = time.perf_counter()
        folder = f"{CHECKPOINTS}/{folder_name(self.step, self.setup.attempt)}"
        files = save_state(self.setup.run.child(folder), self.model, self.optimizer, self.world)
        manifest = CheckpointManifest(
            step=self.step,
            attempt=self.setup.attempt,
            consumed=self.step * self.plan.training.global_batch,
            seed=self.plan.seed,
            plan_hash=plan_hash(self.plan),
            store_hash=self.store.manifest.content_hash,
            mesh=asdict(self.mesh),
            metrics=metrics,
            files=files,
            seconds=time.perf_counter() - begun,
        )
        refusal = self._commit(manifest) if self.world.is_first else None
        refusal = self.world.from_first(refusal)
        if refusal is not None:
            raise refusal
        self.last, self.metrics = folder, metrics

    def _commit(self, manifest: CheckpointManifest) -> AxisError | None:
        """Refusals are told to the other workers instead of leaving them waiting."""
        try:
            self.channel.commit(manifest)
        except AxisError as error:
            return error
        return None

    def result(self, stopped: bool) -> TrainResult:
        """Where things stand."""
        return TrainResult(self.step, stopped, self.last, self.metrics)

    def _on_device(self, columns: Mapping[str, np.ndarray]) -> Batch:
        device = self.world.device
        tensors = {name: torch.from_numpy(array) for name, array in columns.items()}
        if device.type == "cpu":
            return tensors
        return {name: t.to(device, non_blocking=True) for name, t in tensors.items()}


def _check_finite(record: StepRecord) -> None:
    if math.isfinite(record.loss) and math.isfinite(record.grad_norm):
        return
    raise AxisError(
        f"step {record.step}: the loss is {record.loss:g} and the gradient norm "
        f"{record.grad_norm:g}; nothing after the last checkpoint is kept. A smaller "
        "training.optimizer.lr, a longer training.schedule.warmup or a training.max_norm may help"
    )
