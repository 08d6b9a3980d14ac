"""``torchrun --nproc-per-node K --max-restarts 10 …/torchrun_elastic.py SETTINGS.json``."""

from __future__ import annotations

import sys
from datetime import timedelta

import torch.distributed as dist

from benchmarks.by_hand.elastic_loop import Settings, train


def main() -> None:
    """Join the group and train."""
    # What is lost while a group comes up is noticed after so long; the default is half an hour.
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    train(Settings.read(sys.argv[1]))


if __name__ == "__main__":
    main()
