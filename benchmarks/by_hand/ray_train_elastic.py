"""``python -m benchmarks.by_hand.ray_train_elastic SETTINGS.json FOLDER ADDRESS MIN MAX``.

The loop under Ray Train with an elastic number of workers, which restarts the group after a loss.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def work(config: dict[str, Any]) -> None:
    """One worker."""
    from benchmarks.by_hand.elastic_loop import Settings, train

    train(Settings.read(config["settings"]))


def main() -> None:
    """Connect to the cluster and train, until somebody ends it."""
    settings, folder, address, fewest, most = sys.argv[1:]
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    trainer = TorchTrainer(
        work,
        train_loop_config={"settings": settings},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=(int(fewest), int(most)), resources_per_worker={"CPU": 1}
        ),
        run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=10)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
