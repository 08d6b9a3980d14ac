"""From the first step to the last: when is there an evaluation, a checkpoint, an end?

Every worker runs ``train`` with the same setup. The loop knows neither Ray nor where records go.
"""

from __future__ import annotations

from orchestrator.feed.loader import Loader
from orchestrator.parallel.channel import Channel
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.parallel.underway import Seen
from orchestrator.parallel.worker import Worker
from orchestrator.plan.cadence import is_checkpoint_step


def train(setup: TrainSetup, channel: Channel) -> TrainResult:
    """Train to the plan's last step, or until the channel asks to stop, then take a checkpoint; or
    until the next checkpoint, where it asks to leave with that.

    Uses the process group that is there, or none. Whatever the Job raises comes out unchanged.
    Raises ``NotFinite`` where the plan's limit of steps without a finite loss is passed,
    ``DamagedError``, ``StorageError`` or ``ResumeRefused`` where a checkpoint cannot be read or the
    last one cannot be written, and ``Fenced`` on every worker where the channel refuses a commit.
    """
    worker = Worker(setup, channel)
    if worker.step >= setup.plan.training.steps:
        return worker.result(stopped=False)
    channel.started(worker.describe())
    worker.pace.tell(worker.step)
    try:
        with worker.watch, worker.busy:
            return _train(worker)
    finally:
        worker.saver.close()


def _train(worker: Worker) -> TrainResult:
    while True:
        with worker.loader() as loader:
            stopped = _train_on(worker, loader)
        if stopped is not None:
            worker.conclude()
            return worker.result(stopped)
        worker.roll_back()


def _train_on(worker: Worker, loader: Loader) -> bool | None:
    """Whether training was stopped; ``None`` where state is to be taken back first."""
    steps, owed, leaving = worker.plan.training.steps, False, False
    while worker.step < steps:
        seen = worker.take_step(loader)
        owed = owed or seen.save or _by_plan(worker)
        if worker.step == steps or owed or seen.stop:
            # Figures that are still on their way may bring bad news, or a wish to stop.
            seen |= worker.read_figures(keep=0)
            if not seen.rollback and _may_save(worker, seen):
                worker.save(evaluating=worker.step == steps or not seen.stop)
                owed, leaving = False, seen.leave
        if seen.rollback:
            return None
        if (seen.stop or leaving) and worker.step < steps:
            return True
    return False


def _by_plan(worker: Worker) -> bool:
    """Whether a fixed number of steps makes a checkpoint due."""
    every = worker.plan.coordination.checkpoint.every
    return every != "auto" and is_checkpoint_step(worker.step, worker.plan.training.steps, every)


def _may_save(worker: Worker, seen: Seen) -> bool:
    """In a row of steps that were skipped a checkpoint is put off: a rollback must not lead to
    state that may be the cause. Not at the end, where there is no later."""
    last = worker.step == worker.plan.training.steps or seen.stop
    return last or not worker.guard.streak
