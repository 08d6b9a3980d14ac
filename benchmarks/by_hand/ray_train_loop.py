"""``python -m benchmarks.by_hand.ray_train_loop SETTINGS.json``: our loop, nobody over it.

``orchestrator.parallel`` on two ``TorchTrainer`` workers whose channel writes files: the same steps
as those of ``axis run`` on the same Ray, without a coordinator that hears of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from benchmarks.by_hand.settings import InFile

WORKERS = 2


@dataclass(frozen=True)
class Settings(InFile):
    """What is trained; ``<output>.<rank>`` receives what ``mesh_loop.Measured`` writes."""

    plan: str
    store: str
    run: str
    output: str


def work(config: dict[str, Any]) -> None:
    """One worker."""
    from benchmarks.mesh_axis import TimedChannel
    from orchestrator.job_import import load_job_for_mesh
    from orchestrator.parallel.loop import train
    from orchestrator.parallel.setup import TrainSetup
    from orchestrator.plan.load import load_plan
    from orchestrator.storage import Storage

    settings = Settings.read(config["settings"])
    loaded, run = load_plan(settings.plan, []), Storage.open(settings.run)
    TimedChannel.output = settings.output
    channel = TimedChannel(run, 1, ray.train.get_context().get_world_rank())
    store, job = Storage.open(settings.store), load_job_for_mesh(loaded)
    train(TrainSetup(plan=loaded.plan, job=job, store=store, run=run, attempt=1), channel)
    channel.flush()


def main() -> None:
    """Start a cluster; train."""
    from orchestrator.parallel.attempts import take_attempt
    from orchestrator.storage import Storage

    (path,) = sys.argv[1:]
    settings = Settings.read(path)
    ray.init(address="local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    take_attempt(Storage.open(settings.run))
    trainer = TorchTrainer(
        work,
        train_loop_config={"settings": path},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=f"{settings.run}-ray"),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
