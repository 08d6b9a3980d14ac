"""Jobs whose loss is not a finite number on some samples, and what the ranks make of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from small_runs import MemoryChannel, plan_of, run_here
from torch import Tensor, nn

from jobs.digits import Digits
from jobs.gpt import GPT
from orchestrator.errors import NotFinite
from orchestrator.job import Batch
from orchestrator.parallel import guard, step
from orchestrator.storage import Storage


class Poisoned(Digits):
    """Its loss is NaN on batches with a sample whose ``fingerprint`` is poisoned.

    ``how`` may be ``gradient``: the loss stays finite, its gradient does not; or ``norm``: there
    are running means, too, which a poisoned batch spoils.
    """

    def __init__(self, poison: list[float], how: str = "loss") -> None:
        super().__init__(channels=4)
        self.poison, self.how = poison, how

    def model(self) -> nn.Module:
        model = super().model()
        assert isinstance(model, nn.Sequential)
        return nn.Sequential(nn.BatchNorm1d(64), *model) if self.how == "norm" else model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        marks = fingerprint(batch["pixels"])
        bad = torch.isin(marks, torch.tensor(self.poison, dtype=marks.dtype)).any()
        if not bool(bad):
            return super().loss(model, batch)
        if self.how == "norm":
            return super().loss(model, {**batch, "pixels": batch["pixels"] * float("nan")})
        loss = super().loss(model, batch)
        return loss + _Explode.apply(loss) if self.how == "gradient" else loss * float("nan")


class _Explode(torch.autograd.Function):
    """Nothing forward, an infinite gradient backward."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss * 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * float("inf")


def fingerprint(pixels: Tensor) -> Tensor:
    """A number by which a test tells one image from another."""
    return (pixels.double() * torch.arange(1, 65, dtype=torch.float64)).sum(dim=1).round(decimals=3)


def poisoned_case(
    text: str,
    overrides: tuple[str, ...],
    store: str,
    run: str,
    poison: list[float],
    how: str = "loss",
    resume: str | None = None,
    attempt: int = 1,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train; what this rank saw, or how it ended."""
    plan = plan_of(text, *overrides)
    channel = MemoryChannel(Storage.open(run), stop_after)
    error = ""
    try:
        run_here(plan, Poisoned(poison, how), store, run, attempt=attempt, resume=resume,
                 channel=channel)  # fmt: skip
    except NotFinite as raised:
        error = str(raised)
    return {
        "rank": dist.get_rank() if dist.is_initialized() else 0,
        "records": [record.to_dict() for record in channel.records],
        "ids": channel.ids(),
        "notes": [asdict(note) for note in channel.notes],
        "evaluations": [dict(record.metrics) for record in channel.evaluations],
        "manifests": channel.manifests,
        "error": error,
    }


class PoisonedGPT(GPT):
    """Its loss is NaN on batches with a sample whose tokens add up to a poisoned sum; what it says
    in parts can lie over any mesh."""

    def __init__(self, poison: list[int], **options: Any) -> None:
        super().__init__(**options)
        self.poison = poison

    def prepare(self, batch: Batch) -> Batch:
        marks = token_marks(batch["tokens"])
        bad = torch.isin(marks, torch.tensor(self.poison, dtype=marks.dtype))
        return {**super().prepare(batch), "bad": bad}

    def criterion(self, outputs: Tensor, prepared: Batch) -> tuple[Tensor, Tensor]:
        total, weight = super().criterion(outputs, prepared)
        return (total * float("nan") if bool(prepared["bad"].any()) else total), weight


def token_marks(tokens: Tensor) -> Tensor:
    """A number by which a test tells one window from another."""
    places = torch.arange(1, tokens.shape[1] + 1)
    return (tokens.long() * places).sum(dim=1)


def poisoned_gpt_case(
    text: str, overrides: tuple[str, ...], store: str, run: str, poison: list[int], on_device: bool
) -> dict[str, Any]:
    """Train on any mesh; ``on_device``: skip as on an accelerator, without reading the flag."""
    plan = plan_of(text, *overrides)
    channel = MemoryChannel(Storage.open(run))
    job = PoisonedGPT(poison, **plan.options)
    guarded = step.guarded_step
    step.guarded_step = guard.step_on_device if on_device else guarded
    try:
        run_here(plan, job, store, run, channel=channel)
    finally:
        step.guarded_step = guarded
    return {"losses": channel.losses, "norms": [record.grad_norm for record in channel.records],
            "notes": [note.step for note in channel.notes]}  # fmt: skip
