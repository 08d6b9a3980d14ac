"""``torchrun benchmarks/by_hand/mesh_loop.py SETTINGS.json``: a training loop on a mesh, by hand.

What one would write with torch alone: the mesh, AdamW, clipping to the global norm, and a loss
that is exact although ranks have different numbers of tokens. Nothing of the orchestrator but the
Job.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.by_hand.mesh_model import copied, sharded, spread
from benchmarks.by_hand.mesh_pipeline import Pipeline
from benchmarks.by_hand.settings import InFile
from benchmarks.by_hand.shards import ShardDataset
from jobs.gpt import GPT, PAD

LOG_EVERY = 10
MAX_NORM = 1.0


@dataclass(frozen=True)
class Settings(InFile):
    """What is trained. ``<output>.<rank>`` receives what each rank measured.

    ``mesh`` maps ``pipeline``, ``replicate``, ``shard`` and ``tensor`` to their degrees.
    """

    store: str
    output: str
    options: dict[str, Any]
    mesh: dict[str, int]
    global_batch: int
    micro_batch: int
    steps: int
    lr: float
    warmup: int


@dataclass
class Measured:
    """What a rank measured: when each step ended, the processor time spent by then, and the last
    loss it knows (a mean over the global batch; NaN where it knows none)."""

    step_times: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    loss: float = math.nan
    peak_resident_bytes: int = 0

    def note_step(self) -> None:
        """A step is finished."""
        self.step_times.append(time.time())
        self.cpu_seconds.append(time.process_time())

    def write(self, output: str) -> None:
        """Write ``<output>.<rank>``, with the most memory that the process ever occupied."""
        self.peak_resident_bytes = resident_bytes("VmHWM")
        Path(f"{output}.{dist.get_rank()}").write_text(json.dumps(asdict(self)))


def resident_bytes(field: str) -> int:
    """The resident set of this process: ``VmRSS``, or the largest there was: ``VmHWM``.

    ``getrusage`` would count that of the process which started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


class Meshes:
    """Torch's device meshes; ranks that see different samples are those of ``batch``."""

    def __init__(self, degrees: dict[str, int]) -> None:
        names = tuple(name for name, degree in degrees.items() if degree > 1)
        self.world = init_device_mesh(
            "cpu", tuple(degrees[name] for name in names), mesh_dim_names=names
        )
        copies = tuple(name for name in ("replicate", "shard") if name in names)
        self.batch = self.world[copies]
        self.is_sharded = "shard" in names
        self.tensor = self.world["tensor"] if "tensor" in names else None
        self.pipeline = self.world["pipeline"] if "pipeline" in names else None

    @property
    def batch_group(self) -> dist.ProcessGroup:
        """All ranks that see different samples, but the same parts of the model."""
        return (self.batch if self.batch.ndim == 1 else self.batch._flatten()).get_group()


Step = Callable[[dict[str, Tensor]], Tensor | None]


def main() -> None:
    """Join the group, train, leave it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train(Settings.read(sys.argv[1]))
    dist.destroy_process_group()


def train(settings: Settings) -> None:
    """Train as one worker."""
    torch.manual_seed(0)
    meshes = Meshes(settings.mesh)
    group = meshes.batch_group
    job = GPT(**settings.options)
    model, passes = laid(job, meshes, group, settings)
    optimizer = build_optimizer(model, settings.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(settings, step + 1))
    measured = Measured()
    for step, batch in enumerate(islice(batches(settings, group), settings.steps), start=1):
        optimizer.zero_grad(set_to_none=True)
        loss = passes(batch)
        clip(model, meshes.pipeline)
        optimizer.step()
        schedule.step()
        measured.note_step()
        if step % LOG_EVERY == 0:
            measured.loss = log(step, loss, group)
    measured.write(settings.output)


def laid(
    job: GPT, meshes: Meshes, group: dist.ProcessGroup, settings: Settings
) -> tuple[nn.Module, Step]:
    """This rank's part of the model, and what does forward and backward of a batch with it."""
    whole = job.model()
    if meshes.pipeline is not None:
        number = settings.global_batch // group.size() // settings.micro_batch
        return pipelined(whole, meshes.pipeline, meshes.batch, number)
    if meshes.tensor is not None:
        whole = spread(whole, meshes.tensor)
    model = (sharded if meshes.is_sharded else copied)(whole, meshes.batch)

    def passes(batch: dict[str, Tensor]) -> Tensor:
        weight, arrived = share_weight(batch, group)
        total, _ = job.loss(model, batch)
        arrived.wait()
        # Gradients are averaged over the ranks, so their number cancels.
        loss = total * (group.size() / weight)
        loss.backward()
        return loss.detach()

    return model, passes


def pipelined(
    whole: Any, stages: DeviceMesh, copies: DeviceMesh, number: int
) -> tuple[nn.Module, Step]:
    """The same with a pipeline."""
    group = copies.get_group()
    weight = torch.ones((), dtype=torch.int64)

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        total = nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum"
        )
        return total * (group.size() / weight)

    pipeline = Pipeline(whole, stages, copies, number, loss_of)

    def passes(batch: dict[str, Tensor]) -> Tensor | None:
        tokens = batch["tokens"].long()
        shared, arrived = share_weight(batch, group)
        arrived.wait()
        weight.copy_(shared)
        return pipeline.step(tokens[:, :-1], tokens[:, 1:])

    return pipeline.module, passes


def share_weight(batch: dict[str, Tensor], group: dist.ProcessGroup) -> tuple[Tensor, dist.Work]:
    """The number of tokens to predict in the global batch, once the work has arrived."""
    weight = (batch["tokens"][:, 1:].long() != PAD).sum()
    work = dist.all_reduce(weight, group=group, async_op=True)
    return weight, work


def build_optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Fused AdamW; matrices decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


def clip(model: nn.Module, stages: DeviceMesh | None) -> None:
    """Clip gradients to their norm over all ranks and stages."""
    parameters = list(model.parameters())
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if stages is not None:
        squares = norm**2
        dist.all_reduce(squares, group=stages.get_group())
        norm = squares**0.5
    nn.utils.clip_grads_with_norm_(parameters, MAX_NORM, norm, foreach=True)


def batches(settings: Settings, group: dist.ProcessGroup) -> Iterator[dict[str, Tensor]]:
    """This rank's share of each global batch, without an end."""
    dataset = ShardDataset(Path(settings.store))
    sampler: DistributedSampler[Any] = DistributedSampler(
        dataset, group.size(), group.rank(), drop_last=True
    )
    # Without worker processes, as in ``ddp_loop``.
    size = settings.global_batch // group.size()
    loader = DataLoader(dataset, size, sampler=sampler, drop_last=True)
    for epoch in count():
        sampler.set_epoch(epoch)
        yield from loader


def log(step: int, loss: Tensor | None, group: dist.ProcessGroup) -> float:
    """The mean loss over the global batch where it is known, else NaN; one line on one rank."""
    if loss is None:
        return math.nan
    dist.all_reduce(loss, group=group)
    mean = loss.item() / group.size()
    if group.rank() == 0:
        print(f"step {step}: loss {mean:.4f}", flush=True)
    return mean


def _rate(settings: Settings, step: int) -> float:
    if step < settings.warmup:
        return step / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * min(share, 1.0))) / 2


if __name__ == "__main__":
    main()
