"""What the ranks of a process group do in the tests; run by ``gloo_gang``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from small_runs import MemoryChannel, plan_of, run_here
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.errors import Fenced
from orchestrator.feed.store import SampleStore
from orchestrator.job import Batch, Job
from orchestrator.job_import import load_job
from orchestrator.parallel.engine import WholeEngine
from orchestrator.parallel.figures import Wishes
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.manifest import CheckpointManifest
from orchestrator.parallel.optimizer import build_optimizer
from orchestrator.parallel.step import Stepper
from orchestrator.parallel.world import current_world, seed_all
from orchestrator.parallel.wrap import agree_on_buffers, lay
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.model import Model
from orchestrator.plan.training import SGD
from orchestrator.storage import Storage


def train_case(
    text: str,
    overrides: tuple[str, ...],
    store: str,
    run: str,
    resume: str | None = None,
    attempt: int = 1,
    stops: Mapping[int, int] | None = None,
    job: Job | None = None,
    micro_batch: int | None = None,
    leaves: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """Train a plan; ``stops`` says which rank asks to stop after which number of its steps, and
    ``leaves`` which one from when on wants to leave with a checkpoint."""
    plan = plan_of(text, *overrides)
    rank = dist.get_rank() if dist.is_initialized() else 0
    storage = Storage.open(run)
    channel = MemoryChannel(storage, (stops or {}).get(rank), (leaves or {}).get(rank))
    result, _ = run_here(
        plan, job or load_job(plan), store, run, attempt=attempt, resume=resume, channel=channel,
        micro_batch=micro_batch,
    )  # fmt: skip
    return {
        "losses": channel.losses,
        "norms": [record.grad_norm for record in channel.records],
        "steps": [record.step for record in channel.records],
        "ids": channel.ids(),
        "evaluations": [asdict(record) for record in channel.evaluations],
        "manifests": channel.manifests,
        "notes": channel.notes,
        "starts": [asdict(start) for start in channel.starts],
        "result": result,
    }


class Noisy(Job):
    """Drops half of its inputs at random."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch["pixels"]), batch["label"])


def noisy_case(overrides: tuple[str, ...], text: str, store: str, run: str) -> list[float]:
    """The losses of a Job that draws random numbers."""
    losses: list[float] = train_case(text, overrides, store, run, job=Noisy())["losses"]
    return losses


class Double(Job):
    """Another Job in double precision."""

    def __init__(self, inner: Job) -> None:
        self.inner = inner

    def loss(self, model: nn.Module, batch: Batch) -> Any:
        wide = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
        return self.inner.loss(model, wide)


def gradient_case(text: str, store: str, accumulation: int) -> dict[str, np.ndarray]:
    """The gradient of 16 samples, taken as the way that a step of plain SGD goes."""
    job = load_job(plan_of(text))
    world = current_world()
    seed_all(0)
    model = job.model().double()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    per_worker = 16 // world.size
    micro = per_worker // accumulation
    layout = Layout(Mesh(replicate=world.size), world)
    laid = lay(Double(job), model, layout, Model())
    (module,) = laid.modules
    engine = WholeEngine(module, world, 0, micro, accumulation, bf16=False)
    optimizer = build_optimizer(laid.parts.parameters(), SGD(lr=1.0))
    stepper = Stepper(laid, engine, optimizer, layout, micro, max_norm=0.0)
    first = world.rank * per_worker
    ids = np.arange(first, first + per_worker)
    columns = SampleStore.open(Storage.open(store)).take(ids)
    batches = [
        {name: torch.from_numpy(array[start : start + micro]) for name, array in columns.items()}
        for start in range(0, per_worker, micro)
    ]
    stepper.step(first, batches, 1.0, Wishes()).read()
    return {n: (before[n] - p.detach()).numpy() for n, p in model.named_parameters()}


class FencedChannel(MemoryChannel):
    """Belongs to an attempt that is over."""

    def commit(self, manifest: CheckpointManifest) -> None:
        raise Fenced(f"attempt {manifest.attempt} is over")


def fenced_case(text: str, store: str, run: str) -> str:
    """What every rank hears when the commit is refused."""
    plan = plan_of(text, "training.steps=2")
    try:
        run_here(plan, load_job(plan), store, run, channel=FencedChannel(Storage.open(run)))
    except Fenced as error:
        return str(error)
    return "not fenced"


def damaged_case(text: str, store: str, run: str, resume: str) -> str:
    """What every rank hears when a checkpoint is damaged."""
    try:
        train_case(text, (), store, run, resume)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


def buffers_case() -> list[float]:
    """Running means after each rank moved its own, and after they agreed."""
    world = current_world()
    model = nn.BatchNorm1d(2)
    model(torch.full((4, 2), float(world.rank + 1)))
    before = float(model.running_mean[0])  # type: ignore[index]
    agree_on_buffers([model], Layout(Mesh(replicate=world.size), world))
    return [before, float(model.running_mean[0])]  # type: ignore[index]


class Idle(Noisy):
    """Has a layer that its loss never uses."""

    def model(self) -> nn.Module:
        model = super().model()
        model.idle = nn.Linear(2, 2)
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, nn.Sequential)
        return F.cross_entropy(model[1](batch["pixels"]), batch["label"])


def idle_case(text: str, store: str, run: str) -> str:
    """What every rank hears of a parameter without a gradient."""
    try:
        train_case(text, (), store, run, job=Idle())
    except TypeError as error:
        return str(error)
    return "not refused"
