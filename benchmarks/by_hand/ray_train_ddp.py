"""``python -m benchmarks.by_hand.ray_train_ddp SETTINGS.json FOLDER [ADDRESS]``.

The loop on two ``TorchTrainer`` workers; prints ``{"called_at": …}``, the moment before ``fit``.
Figures go the way Ray's documentation shows, through ``ray.train.report``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

WORKERS = 2


def work(config: dict[str, Any]) -> None:
    """One worker."""
    from benchmarks.by_hand.ddp_loop import Settings, train

    settings = Settings.read(config["settings"])

    def log(figures: dict[str, float]) -> None:
        if figures["step"] <= settings.report_until:
            ray.train.report(figures)

    train(settings, log)


def main() -> None:
    """Connect to the cluster, or start one; train."""
    settings, folder, *address = sys.argv[1:]
    ray.init(
        address=address[0] if address else "local",
        log_to_driver=False,
        logging_level="ERROR",
        **({} if address else {"include_dashboard": False}),
    )
    trainer = TorchTrainer(
        work,
        train_loop_config={"settings": settings},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=folder),
    )
    called_at = time.time()
    trainer.fit()
    print(json.dumps({"called_at": called_at}), flush=True)


if __name__ == "__main__":
    main()
