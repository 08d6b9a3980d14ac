"""What does one worker hold while it trains, and what can it do: step, evaluate, checkpoint?

When it does which is decided in ``loop``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict

import numpy as np
import torch

from orchestrator.errors import DamagedError, Problem, ResumeRefused, StorageError
from orchestrator.feed.cursor import Order, share
from orchestrator.feed.loader import Loader
from orchestrator.feed.store import SampleStore
from orchestrator.feed.windows import NO_WINDOWS, Windows
from orchestrator.job import Batch
from orchestrator.parallel.busy import Busy
from orchestrator.parallel.cadence import TimedCadence
from orchestrator.parallel.channel import Channel, EvalRecord, Note, Started
from orchestrator.parallel.checkpoint import load_state
from orchestrator.parallel.evaluate import evaluate
from orchestrator.parallel.figures import Wishes
from orchestrator.parallel.guard import Guard
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.manifest import CheckpointManifest, parse_folder
from orchestrator.parallel.optimizer import build_optimizer, create_state, state_bytes
from orchestrator.parallel.pace import Pace
from orchestrator.parallel.pinned import pinned_empty
from orchestrator.parallel.saving import Saver
from orchestrator.parallel.schedule import learning_rate
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.parallel.step import Stepper
from orchestrator.parallel.underway import Seen, Taken, Underway
from orchestrator.parallel.upkeep import collect_partial
from orchestrator.parallel.watchdog import Watchdog
from orchestrator.parallel.world import World, current_world, seed_all
from orchestrator.parallel.wrap import agree_on_buffers, build_engine, evaluating, lay
from orchestrator.plan.dump import plan_hash
from orchestrator.plan.mesh import Mesh, batch_rank_of
from orchestrator.plan.sizes import BatchShape, batch_shape, mesh_for

LAST_WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""How long after one another the last checkpoint is tried again."""


class Worker:
    """The parts of one worker's training, built and, where asked, loaded."""

    def __init__(self, setup: TrainSetup, channel: Channel) -> None:
        self.setup, self.channel, self.plan, self.job = setup, channel, setup.plan, setup.job
        training = self.plan.training
        self.world: World = current_world(setup.device)
        if self.world.device.type == "cpu":
            torch.set_num_threads(training.threads)
        if self.world.is_first:
            with suppress(StorageError):  # where nothing can be written, the next one says so
                collect_partial(setup.run, setup.attempt)
        self.mesh: Mesh = mesh_for(self.plan, self.world.size)
        self.layout = Layout(self.mesh, self.world)
        self.shape: BatchShape = batch_shape(self.plan, self.world.size, setup.micro_batch)
        self.batch_rank = batch_rank_of(self.mesh, self.world.rank)
        self.store = SampleStore.open(setup.store)
        self.order = Order(self.plan.seed, self.store.num_samples, self.plan.data.holdout)
        seed_all(self.plan.seed)
        model = self.job.model().to(self.world.device)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.laid = lay(self.job, model, self.layout, self.plan.model)
        self.engine = build_engine(self.laid, self.job, self.layout, self.plan, self.shape)
        self.optimizer = build_optimizer(self.laid.parts.parameters(), training.optimizer)
        self.step, self.metrics, self.last = 0, dict[str, float](), setup.resume
        self._draft: CheckpointManifest | None = None
        self._refusal: StorageError | None = None
        """Why the newest draft came to nothing."""
        self.windows: Windows = NO_WINDOWS
        if setup.resume is not None:
            self._resume(setup.resume)
        else:
            create_state(self.optimizer)
        self.saver = Saver(
            setup.run,
            self.laid.parts,
            self.optimizer,
            self.world,
            channel,
            asynchronous=self.plan.coordination.checkpoint.asynchronous,
        )
        self.saver.prepare()
        self.stepper = Stepper(
            self.laid,
            self.engine,
            self.optimizer,
            self.layout,
            self.shape.micro_batch,
            training.max_norm,
        )
        # An accelerator works through a queue, which reading a step's own figures would drain.
        self.lag = 1 if self.world.device.type == "cuda" else 0
        self.guard = Guard(training.non_finite, num_rollbacks=len(self.windows.passed))
        self.underway = Underway(channel, self.guard, training.global_batch)
        settings = self.plan.coordination
        self.watch = Watchdog(
            self.world.rank,
            channel,
            settings.hang_timeout,
            max(settings.start_timeout, settings.hang_timeout),
        )
        self.stepper.entered = self.watch.enter
        self.busy = Busy(self.world.device.type)
        self.pace = Pace(channel, self._cadence(), self.world.is_first)

    def _cadence(self) -> TimedCadence | None:
        """One clock says when ``every: auto`` is due: the first worker's."""
        settings = self.plan.coordination.checkpoint
        if settings.every != "auto" or not self.world.is_first:
            return None
        size = state_bytes(self.laid.parts.parameters().values(), self.plan.training.optimizer)
        return TimedCadence(settings.mtbf, self.setup.failures, size)

    def _resume(self, folder: str) -> None:
        manifest = load_state(
            self.setup.run.child(folder), self.laid.parts, self.optimizer, self.world
        )
        self.windows = Windows.of(manifest.skipped)
        self._check_same_samples(manifest, folder)
        self.step, self.metrics = manifest.step, dict(manifest.metrics)

    def _check_same_samples(self, manifest: CheckpointManifest, folder: str) -> None:
        """The position in the order of samples must mean what it meant."""
        expected = self._consumed(manifest.step)
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
            num_parameters=self.num_parameters,
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
            windows=self.windows,
            allocate=pinned_empty if self.world.device.type == "cuda" else np.empty,
        )

    def take_step(self, loader: Loader) -> Seen:
        """One optimizer step; what follows from it, as far as that is known."""
        self.watch.begin(f"step {self.step + 1}")
        self.watch.enter("waiting for samples")
        begun, stalled = time.perf_counter(), loader.stall_seconds
        batch = next(loader)
        data_seconds = loader.stall_seconds - stalled
        self.busy.begin()
        training = self.plan.training
        turns = share(self.step, training.global_batch, self.batch_rank, self.mesh.batch_degree)
        first = self.windows.position(turns[0])
        rate = learning_rate(
            training.schedule, training.optimizer.lr, self.step + 1, training.steps
        )
        inputs = [self._on_device(columns) for columns in batch.micro_batches]
        figures = self.stepper.step(first, inputs, rate, self._wishes())
        self.step += 1
        seconds = time.perf_counter() - begun
        self.channel.worked(self.step, seconds, self.busy.end(), data_seconds)
        self.underway.add(Taken(self.step, figures, rate, seconds, data_seconds, batch.ids))
        seen = self.read_figures(keep=self.lag)
        self.watch.rest()
        self.pace.step_taken(self.step, seconds, self.saver.committed)
        return seen

    def _wishes(self) -> Wishes:
        return Wishes(
            stop=self.channel.stop_requested(),
            save=self.pace.due(),
            leave=self.channel.leave_at_checkpoint(),
            give_up=self.saver.failed,
        )

    def read_figures(self, keep: int) -> Seen:
        """Report all steps under way but the last ``keep``; what follows from them.

        Raises on all workers what went wrong with a checkpoint under way, and the guard's error
        where the run is to end.
        """
        seen = self.underway.read(keep)
        if seen.give_up or seen.halt:
            self.await_checkpoint()
        if seen.halt:
            key = parse_folder(self.last or "")
            raise self.guard.error(key[0] if key else None)
        return seen

    def roll_back(self) -> None:
        """Take back all state to the last checkpoint, and pass over the samples of the bad steps.

        All workers call it together. Raises the guard's error where there is no checkpoint.
        """
        self.await_checkpoint()  # one that is under way is the last
        if self.last is None:
            raise self.guard.error(None)
        bad = tuple(self.guard.streak)
        batch = self.plan.training.global_batch
        windows = self.windows.passing_over((bad[0].step - 1) * batch, bad[-1].step * batch)
        taken = self.step
        self.underway.forget()
        self._resume(self.last)
        self.windows = windows
        self.guard.rolled_back()
        self.pace.rolled_back()
        text = (
            f"rolled back from step {taken} to step {self.step}; {batch * len(bad)} samples of "
            f"steps {bad[0].step} to {bad[-1].step} are passed over "
            f"({self.guard.num_rollbacks} of {self.guard.rule.max_rollbacks} rollbacks)"
        )
        self.channel.note(Note("rolled-back", self.step, text))

    def _consumed(self, step: int) -> int:
        """Samples used up by so many steps, those passed over included."""
        return step * self.plan.training.global_batch + self.windows.num_passed

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out samples, reported; empty where the plan wants none."""
        ids = self.order.holdout_ids(self.plan.training.evaluate.samples)
        if not len(ids):
            return {}
        begun = time.perf_counter()
        self.watch.begin(f"the evaluation after step {self.step}")
        with evaluating(self.laid.modules):
            metrics = evaluate(
                self.engine,
                ids,
                lambda part: self._on_device(self.store.take(part)),
                self.shape.micro_batch,
                self.layout,
            )
        seconds = time.perf_counter() - begun
        self.watch.begin(f"the checkpoint after step {self.step}")
        self.channel.evaluated(EvalRecord(self.step, metrics, len(ids), seconds))
        return metrics

    def save(self, evaluating: bool) -> None:
        """A checkpoint, watched over, and its cost noted."""
        self.await_checkpoint()  # the one before, which has a deadline of its own
        self.pace.hear(self.step, self.saver.committed)
        begun = time.perf_counter()
        self.watch.begin(f"the checkpoint after step {self.step}")
        self.checkpoint(evaluating)
        self.watch.rest()
        if self._refusal is None:
            self.pace.saved(self.step, time.perf_counter() - begun, self.saver.committed)

    def checkpoint(self, evaluating: bool) -> None:
        """Take a checkpoint of the state as it is now; training may go on before it exists."""
        agree_on_buffers(self.laid.modules, self.layout)
        metrics = self.evaluate() if evaluating else {}
        self._draft = CheckpointManifest(
            step=self.step,
            attempt=self.setup.attempt,
            consumed=self._consumed(self.step),
            skipped=self.windows.passed,
            seed=self.plan.seed,
            plan_hash=plan_hash(self.plan),
            store_hash=self.store.manifest.content_hash,
            mesh=asdict(self.mesh),
            metrics=metrics,
        )
        self._begin(self._draft)

    def await_checkpoint(self) -> None:
        """Return on all workers when the checkpoint under way exists or has come to nothing.

        That storage cannot be written to is told and put up with: the one before is still there,
        and the next may succeed. Raises on all workers whatever else went wrong.
        """
        self.watch.begin(f"the end of a checkpoint under way at step {self.step}")
        with self._putting_up():
            self.saver.finish()
        self.watch.rest()
        if self.saver.saved is not None:
            self.last, self.metrics = self.saver.saved.folder, dict(self.saver.saved.metrics)

    def conclude(self) -> None:
        """Return when the last checkpoint exists: training is over, and no later one makes up for
        it. Storage is asked again for a minute; then raises what it said last."""
        for wait_seconds in LAST_WAITS_SECONDS:
            self.await_checkpoint()
            if self._refusal is None or self._draft is None:
                return
            time.sleep(wait_seconds)
            self._begin(self._draft)
        self.await_checkpoint()
        if self._refusal is not None:
            raise self._refusal

    def _begin(self, draft: CheckpointManifest) -> None:
        self._refusal = None
        with self._putting_up():
            self.saver.begin(draft)

    @contextmanager
    def _putting_up(self) -> Iterator[None]:
        try:
            yield
        except DamagedError:
            raise
        except StorageError as error:
            self._refusal = error
            self.pace.not_written()
            text = f"a checkpoint could not be written: {error}; the one before it stays"
            self.channel.note(Note("not-written", self.step, text))

    def result(self, stopped: bool) -> TrainResult:
        """Where things stand."""
        return TrainResult(self.step, stopped, self.last, self.metrics)

    def _on_device(self, columns: Mapping[str, np.ndarray]) -> Batch:
        device = self.world.device
        tensors = {name: torch.from_numpy(array) for name, array in columns.items()}
        if device.type == "cpu":
            return tensors
        return {name: t.to(device, non_blocking=True) for name, t in tensors.items()}
