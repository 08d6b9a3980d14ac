"""From the first step to the last: when is there an evaluation, a checkpoint, an end?

Every worker runs ``train`` with the same setup. The loop knows neither Ray nor where records go.
"""

from __future__ import annotations

from orchestrator.feed.loader import Loader
from orchestrator.parallel.channel import Channel
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.parallel.worker import Worker


def train(setup: TrainSetup, channel: Channel) -> TrainResult:
    """Train to the plan's last step, or until the channel asks to stop; then a checkpoint.

    Uses the process group that is there, or none. Whatever the Job raises comes out unchanged.
    Raises ``AxisError`` where the loss is not finite, ``DamagedError``, ``StorageError`` or
    ``ResumeRefused`` where a checkpoint cannot be read or written, and ``Fenced`` on every
    worker where the channel refuses a commit.
    """
    worker = Worker(setup, channel)
    if worker.step >= setup.plan.training.steps:
        return worker.result(stopped=False)
    channel.started(worker.describe())
    with worker.loader() as loader:
        return _train_on(worker, loader)


def _train_on(worker: Worker, loader: Loader) -> TrainResult:
    steps, due = worker.plan.training.steps, worker.setup.checkpoint_due
    while worker.step < steps:
        stop = worker.take_step(loader)
        if worker.step == steps or due(worker.step) or stop:
            # Figures that are still on their way may bring bad news, or a wish to stop.
            stop = worker.read_figures(keep=0) or stop
            worker.checkpoint(evaluating=worker.step == steps or not stop)
        if stop and worker.step < steps:
            return worker.result(stopped=True)
    return worker.result(stopped=False)
