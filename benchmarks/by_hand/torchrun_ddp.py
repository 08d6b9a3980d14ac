"""``torchrun --nproc-per-node 2 benchmarks/by_hand/torchrun_ddp.py SETTINGS.json``."""

from __future__ import annotations

import os
import sys

import torch.distributed as dist

from benchmarks.by_hand.ddp_loop import Settings, train


def log(figures: dict[str, float]) -> None:
    """One line on rank 0."""
    if os.environ["RANK"] == "0":
        print(f"step {figures['step']:.0f}: loss {figures['loss']:.4f}", flush=True)


def main() -> None:
    """Join the group, train, leave it."""
    dist.init_process_group("gloo")
    train(Settings.read(sys.argv[1]), log)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
