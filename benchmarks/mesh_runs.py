"""How is one mesh trained, by the orchestrator and by hand, and what did its ranks measure?"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.by_hand.mesh_loop import Settings
from benchmarks.loader import NUM_SHARDS, build_store
from benchmarks.runs import write_plan
from benchmarks.training import stretch_seconds
from benchmarks.workplace import Workplace
from jobs.gpt import GPT
from orchestrator.storage import Storage

SEQ_LEN = 128
MODEL = {
    "layers": 6,
    "hidden": 256,
    "heads": 8,
    "kv_heads": 4,
    "ffn": 704,
    "seq_len": SEQ_LEN,
    "tie": False,
}
LARGE_MODEL = {**MODEL, "layers": 8, "hidden": 512, "ffn": 1408}
NUM_SAMPLES = 4096
WARM_UP_STEPS = 20
_LR, _WARMUP = 1e-3, 10
_MICRO_BATCHES_IN_PIPELINE = 4


@dataclass(frozen=True)
class Case:
    """A mesh: the plan's degrees, in the order of ranks, and what one would write for it."""

    name: str
    by_hand: str
    degrees: Mapping[str, int]

    @property
    def slug(self) -> str:
        """The name as runs and files have it."""
        return self.name.replace("×", "-")

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return prod(self.degrees.values())

    def micro_batch(self, global_batch: int) -> int:
        """Samples of one forward pass: a rank's share, in a pipeline a quarter of it."""
        share = global_batch // (self.degrees.get("replicate", 1) * self.degrees.get("shard", 1))
        return share // (_MICRO_BATCHES_IN_PIPELINE if "pipeline" in self.degrees else 1)


@dataclass(frozen=True)
class Trained:
    """What every rank measured of a run (see ``by_hand.mesh_loop.Measured``)."""

    ranks: list[dict[str, Any]]

    @property
    def stretch_seconds(self) -> float:
        """The median time of a stretch of steps after the warm-up, on the first rank."""
        return stretch_seconds(self.ranks[0]["step_times"][WARM_UP_STEPS - 1 :])

    @property
    def stretch_cpu_seconds(self) -> float:
        """The same of processor time, which all ranks spent together."""
        steps = zip(*(rank["cpu_seconds"] for rank in self.ranks), strict=True)
        return stretch_seconds([sum(step) for step in steps][WARM_UP_STEPS - 1 :])

    @property
    def loss(self) -> float:
        """The last loss, a mean over the global batch; with pipelines the last rank knows it."""
        return float(self.ranks[-1]["loss"])

    @property
    def peak_resident_bytes(self) -> int:
        """The most memory that any rank's process ever occupied."""
        return max(rank["peak_resident_bytes"] for rank in self.ranks)


@dataclass(frozen=True)
class Bench:
    """Runs on the same sample store with the same batch, one by one."""

    place: Workplace
    global_batch: int
    steps: int

    @cached_property
    def store(self) -> Path:
        """The folder of the sample store."""
        folder = self.place.folder / "mesh-store"
        build_text_store(folder)
        return folder

    def axis(self, case: Case, name: str) -> Trained:
        """Train with the orchestrator."""
        path = write_plan(self.place, self.plan(case, name, MODEL, self.steps))
        options = [str(path), "--store", str(self.store)]
        return Trained(self._run(case, name, "-m", "benchmarks.mesh_axis", "{output}", *options))

    def by_hand(self, case: Case, name: str) -> Trained:
        """Train with the loop by hand."""
        settings = Settings(
            store=str(self.store),
            output=str(self._output(name)),
            options=MODEL,
            mesh=dict(case.degrees),
            global_batch=self.global_batch,
            micro_batch=case.micro_batch(self.global_batch),
            steps=self.steps,
            lr=_LR,
            warmup=_WARMUP,
        )
        path = settings.write(self.place.folder / f"{name}.settings")
        return Trained(self._run(case, name, "benchmarks/by_hand/mesh_loop.py", path))

    def memory(self, case: Case, name: str) -> list[dict[str, int]]:
        """What each rank holds after a step of the larger model (see ``mesh_memory``)."""
        path = write_plan(self.place, self.plan(case, name, LARGE_MODEL, 2))
        folders = [str(self.store), str(self.place.folder / "runs" / name)]
        return self._run(
            case, name, "-m", "benchmarks.mesh_memory", "{output}", str(path), *folders
        )

    def plan(self, case: Case, name: str, options: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """The plan of a case: no evaluation, and no checkpoint but the last."""
        source = {"kind": "text", "path": "python:stdlib", "glob": "*.py"}
        training = {
            "workers": case.size,
            "global_batch": self.global_batch,
            "micro_batch": case.micro_batch(self.global_batch),
            "steps": steps,
            "optimizer": {"kind": "adamw", "lr": _LR},
            "schedule": {"decay": "cosine", "warmup": _WARMUP},
            "evaluate": {"samples": 0},
        }
        return {
            "version": 1,
            "name": name,
            "job": "jobs.gpt:GPT",
            "storage": str(self.place.folder / "runs"),
            "options": dict(options),
            "data": {"source": source, "holdout": 0},
            "training": training,
            "model": {"replicate": 1, **case.degrees},
            "coordination": {"checkpoint": {"every": steps}},
        }

    def _output(self, name: str) -> Path:
        return self.place.folder / f"{name}.json"

    def _run(self, case: Case, name: str, *program: str) -> list[dict[str, Any]]:
        """``torchrun`` of a program in which ``{output}`` stands for a path; what ranks wrote."""
        output = str(self._output(name))
        arguments = [output if part == "{output}" else part for part in program]
        launcher = ("-m", "torch.distributed.run", "--standalone")
        self.place.python(*launcher, f"--nproc-per-node={case.size}", *arguments)
        return [json.loads(Path(f"{output}.{rank}").read_text()) for rank in range(case.size)]


def build_text_store(folder: Path) -> None:
    """Windows of the standard library's own source files, as ``jobs.gpt`` makes them."""
    windows = list(islice(_windows(), NUM_SAMPLES))

    def part(count: int, index: int) -> Iterator[dict[str, Any]]:
        return iter(windows[index * count : (index + 1) * count])

    build_store(Storage.open(str(folder)), part, NUM_SHARDS * (len(windows) // NUM_SHARDS))


def _windows() -> Iterator[dict[str, Any]]:
    job = GPT(seq_len=SEQ_LEN)
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield from job.samples({"text": path.read_text(errors="replace")})


def most(ranks: list[dict[str, int]], *names: str) -> int:
    """The largest sum of some figures on any rank."""
    return max(sum(rank[name] for name in names) for rank in ranks)


def middle(runs: list[Trained], figure: str) -> float:
    """The median of a figure over repetitions."""
    return float(median(getattr(run, figure) for run in runs))
