"""A small Job that can be cut into stages, trained on the ranks of a process group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from orchestrator.job import Batch, Job
from orchestrator.parallel.engine import Engine, WholeEngine
from orchestrator.parallel.evaluate import evaluate
from orchestrator.parallel.figures import Figures, Wishes
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.optimizer import build_optimizer
from orchestrator.parallel.pipeline import PipelineEngine, PipelineRules, cut_stages
from orchestrator.parallel.step import Stepper
from orchestrator.parallel.world import current_world, seed_all
from orchestrator.parallel.wrap import Laid, evaluating, lay, uncounted_in
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.model import Model
from orchestrator.plan.training import AdamW
from orchestrator.split import Split

VOCAB, WIDTH, LENGTH, EMPTY = 31, 16, 6, 0
SEED, STEPS, BATCH = 5, 20, 16


class Block(nn.Module):
    """Mixes neighbours, adds; where asked to, hands a sum of squares on beside the activations
    (``sums``), and has the number of its calls matter (``counts``)."""

    def __init__(self, sums: bool, counts: bool) -> None:
        super().__init__()
        self.sums, self.counts = sums, counts
        self.norm = nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, *rest: Tensor) -> Any:
        if self.training and self.counts:
            self.calls += 1
        scale = rest[-1]
        y = self.narrow(F.gelu(self.wide(self.norm(x + x.roll(1, 1))))) * scale[..., None]
        x = x + y * (1 + 0.01 * self.calls)
        return (x, rest[0] + x.square().mean((1, 2))) if self.sums else x


class Net(nn.Module):
    """Embedding, blocks, head. The named argument is one that every block needs."""

    def __init__(self, num_blocks: int, tie: bool, sums: bool, counts: bool) -> None:
        super().__init__()
        self.sums = sums
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.inner = nn.Module()
        self.inner.blocks = nn.ModuleList(Block(sums, counts) for _ in range(num_blocks))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        if tie:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor, total: Tensor | None = None, *, scale: Tensor) -> Any:
        x = self.embed(tokens)
        if not self.sums:
            for block in self.inner.blocks:
                x = block(x, scale)
            return self.head(self.norm(x))
        total = x.new_zeros(len(x)) if total is None else total
        for block in self.inner.blocks:
            x, total = block(x, total, scale)
        return self.head(self.norm(x)), total


@dataclass(frozen=True)
class Tower(Job):
    """Predicts the next token, if it is not ``EMPTY``. ``weighted``: over tokens, else samples."""

    num_blocks: int = 4
    tie: bool = True
    weighted: bool = False
    sums: bool = False
    counts: bool = False

    def model(self) -> nn.Module:
        return Net(self.num_blocks, self.tie, self.sums, self.counts)

    def prepare(self, batch: Batch) -> Batch:
        tokens = batch["tokens"]
        scale = 1 + 0.1 * (tokens[:, :-1] % 3).float()
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "scale": scale}

    def arguments(self, prepared: Batch) -> tuple[tuple[Tensor, ...], Mapping[str, Tensor]]:
        return (prepared["inputs"],), {"scale": prepared["scale"]}

    def criterion(self, outputs: Any, prepared: Batch) -> Any:
        logits, penalty = outputs if self.sums else (outputs, torch.zeros(1))
        targets = prepared["targets"]
        each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        counted = (targets != EMPTY).float()
        if self.weighted:
            return (each * counted).sum(), counted.sum()
        return each.mean() + 0.1 * penalty.mean()

    def scores(self, outputs: Any, prepared: Batch) -> Mapping[str, Any]:
        logits = outputs[0] if self.sums else outputs
        right = (logits.argmax(-1) == prepared["targets"]).float()
        return {"accuracy": right.mean(), "first": (right[:, 0].sum(), torch.tensor(len(right)))}

    def split(self) -> Split:
        return Split(
            blocks="inner.blocks",
            num_blocks=self.num_blocks,
            first=("embed",),
            last=("norm", "head"),
        )


def samples(first: int, count: int) -> Batch:
    """Made-up samples by their place: a walk over tokens, with gaps of ``EMPTY``."""
    rows = []
    for place in range(first, first + count):
        draw = np.random.default_rng(place)
        tokens = (draw.integers(VOCAB) + np.cumsum(draw.integers(0, 3, LENGTH + 1))) % VOCAB
        rows.append(np.where(np.arange(LENGTH + 1) > draw.integers(2, LENGTH + 2), EMPTY, tokens))
    return {"tokens": torch.from_numpy(np.stack(rows))}


def build(
    job: Job, layout: Layout, settings: Model, sizes: tuple[int, int], bf16: bool
) -> tuple[Laid, Engine]:
    """The Job's model over the mesh, and what runs it."""
    seed_all(SEED)
    laid = lay(job, job.model(), layout, settings)
    if layout.mesh.pipeline == 1:
        return laid, WholeEngine(laid.modules[0], layout.world, SEED, *sizes, bf16)
    rules = PipelineRules(settings.pipeline_schedule, SEED, *sizes, bf16)
    stages: Any = laid.modules
    return laid, PipelineEngine(stages, laid.tied, laid.parts.parameters(), layout, rules)


def train_case(
    job: Job,
    degrees: Mapping[str, int],
    micro_batches: int,
    settings: Mapping[str, Any],
    bf16: bool = False,
) -> dict[str, Any]:
    """Train, then evaluate; losses, norms, metrics, and the parameters that this rank has."""
    mesh = Mesh(**degrees)
    layout = Layout(mesh, current_world())
    share = BATCH // mesh.batch_degree
    micro = share // micro_batches
    laid, engine = build(job, layout, Model(**settings), (micro, micro_batches), bf16)
    optimizer = build_optimizer(laid.parts.parameters(), AdamW(lr=1e-2))
    stepper = Stepper(laid, engine, optimizer, layout, micro, max_norm=0.5)
    place = layout.coordinate["replicate"] * mesh.shard + layout.coordinate["shard"]
    losses, norms, metrics = [], [], []
    for step in range(STEPS):
        first = step * BATCH + place * share
        batches = [samples(first + i * micro, micro) for i in range(micro_batches)]
        read = stepper.step(first, batches, 1e-2, Wishes()).read()
        losses.append(read.loss)
        norms.append(read.gradient_norm)
        if step % 9 == 0:
            with evaluating(laid.modules):
                for count in (11, 1):
                    ids = np.arange(1000, 1000 + count)
                    metrics.append(evaluate(engine, ids, samples_of, micro, layout))
    parameters = {n: _whole(p).numpy() for n, p in laid.parts.parameters().items()}
    buffers = {n: float(b) for n, b in laid.parts.buffers().items()}
    return {
        "losses": losses,
        "norms": norms,
        "metrics": metrics,
        "parameters": parameters,
        "buffers": buffers,
        "uncounted": sorted(uncounted_in(laid, layout)),
    }


def samples_of(places: Any) -> Batch:
    """The samples at these places."""
    return {"tokens": torch.cat([samples(int(place), 1)["tokens"] for place in places])}


def _whole(parameter: Tensor) -> Tensor:
    value = parameter.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


class Broken(Tower):
    """A loss that fails, on purpose."""

    def criterion(self, outputs: Any, prepared: Batch) -> Any:
        raise ZeroDivisionError("my own mistake")


class Changeable(Tower):
    """Sometimes a mean, sometimes a total."""

    def criterion(self, outputs: Any, prepared: Batch) -> Any:
        mean = super().criterion(outputs, prepared)
        return mean if prepared["inputs"][0, 0] == 27 else (mean, mean.new_ones(()))


def failing_case(job: Job) -> str:
    """What comes out of a step of a Job that fails; in a pipeline of one stage, for others would
    wait for it in vain."""
    layout = Layout(Mesh(replicate=2), current_world())
    settings = Model(pipeline_schedule="gpipe")
    stages, tied = cut_stages(job, job.model(), layout, settings)
    engine = PipelineEngine(stages, tied, {}, layout, PipelineRules("gpipe", SEED, 4, 2, False))
    try:
        engine.backward([samples(0, 4), samples(4, 4)], 0, Figures(layout, Wishes()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no failure"
