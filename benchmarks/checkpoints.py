"""What does a checkpoint cost? Its stall and its bytes, beside ``torch.save`` and ``dcp.save``.

A Llama of at least 100 M parameters with the state of Adam, in float32. One worker saves the same
state with each contender, turn by turn; two workers save it as copies and as shards; checkpoints of
two workers are loaded by one and by four, beside reading a whole ``torch.save`` file.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.comparison import Comparison, Outcome
from benchmarks.workplace import Workplace, say

HOST = "benchmarks.checkpoints_host"
TIMEOUT_SECONDS = 900.0


def measure(place: Workplace) -> Outcome:
    """Stalls, bytes per worker, and loading on half and on double the workers."""
    stalls = _host(place, 1, "stall", "whole")
    copies, shards = (_host(place, 2, "stall", kind) for kind in ("copies", "shards"))
    loads = _loads(place)
    size = stalls["state_bytes"]
    say(f"state: {size / 1e9:.2f} GB, {stalls['num_parameters'] / 1e6:.0f} M parameters")
    return Outcome(
        f"Checkpoints: {stalls['num_parameters'] / 1e6:.0f} M parameters and Adam state, "
        f"{size / 1e9:.2f} GB",
        [*_stalls(stalls, copies, shards), *loads],
        settings={
            "num_parameters": stalls["num_parameters"],
            "state_bytes": size,
            "repetitions": len(stalls["axis"]),
        },
        extras={
            "seconds_until_committed": stalls["axis_whole"],
            "dcp_async_stall_seconds": stalls["dcp_async"],
            "bytes_per_worker": {
                "one worker": stalls["bytes_per_worker"],
                "two copies": copies["bytes_per_worker"],
                "two shards": shards["bytes_per_worker"],
            },
        },
        notes=[
            "a stall is the time from asking for a checkpoint to the next step",
            f"until it is committed, hashed and synced: {median(stalls['axis_whole']):.2f} s "
            "(in the background)",
            "bytes per worker: "
            + "; ".join(
                f"{name} {_gigabytes(told['bytes_per_worker'])}"
                for name, told in (("two copies", copies), ("two shards", shards))
            ),
            "torch.save is not made to wait for the disk (no fsync), and takes no checksums",
            "loading with axis includes reading every byte once more for its SHA-256",
        ],
    )


def _stalls(
    alone: dict[str, Any], copies: dict[str, Any], shards: dict[str, Any]
) -> list[Comparison]:
    def against(name: str, told: dict[str, Any], what: str, goal: float | None) -> Comparison:
        return Comparison(
            f"stall, {what}", "s", told["axis"], told[name], LABELS[name], goal, False
        )

    return [
        against("torch_save", alone, "1 worker", 0.1),
        against("dcp_save", alone, "1 worker", None),
        against("dcp_async", alone, "1 worker", None),
        against("dcp_save", copies, "2 copies", None),
        against("dcp_save", shards, "2 shards", None),
    ]


LABELS = {
    "torch_save": "torch.save",
    "dcp_save": "dcp.save",
    "dcp_async": "dcp.async_save",
}


def _loads(place: Workplace) -> list[Comparison]:
    folder = place.folder / "resharding"
    _host(place, 2, "prepare", "shards", folder)
    found = []
    for size, kind, what in ((1, "whole", "half the workers"), (4, "shards", "double the workers")):
        told = _host(place, size, "load", kind, folder)
        found.append(
            Comparison(
                f"loading on {what}",
                "s",
                told["axis"],
                told["torch_load"],
                "torch.load of the whole",
                None,
                False,
            )
        )
    return found


def _host(
    place: Workplace, size: int, action: str, kind: str, folder: Path | None = None
) -> dict[str, Any]:
    repetitions = place.size(5, 2)
    where = folder or place.folder / f"{action}-{kind}"
    say(f"{action}, {size} x {kind}")
    program = ["-m", HOST, action, kind, str(where), str(repetitions), str(int(place.quick))]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    arguments = [*launcher, *program] if size > 1 else program
    out = place.python(*arguments, timeout_seconds=TIMEOUT_SECONDS)
    told: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return told


def _gigabytes(sizes: list[int]) -> str:
    return " + ".join(f"{size / 1e9:.2f}" for size in sizes) + " GB"
