"""``torchrun --nproc-per-node K --max-restarts 10 …/torchrun_elastic.py SETTINGS.json``."""

from __future__ import annotations

import sys

import torch.distributed as dist

from benchmarks.by_hand.elastic_loop import Settings, train


def main() -> None:
    """Join the group and train."""
    dist.init_process_group("gloo")
    train(Settings.read(sys.argv[1]))


if __name__ == "__main__":
    main()
