"""One step and one loop in this process: clipping, precision, stopping, what a Job may do wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import DIGITS, GPT, MemoryChannel, Stores, plan_of, run_here
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.digits import Digits
from orchestrator.errors import InfeasibleError, NotFinite
from orchestrator.job import Batch, Job
from orchestrator.job_import import load_job
from orchestrator.parallel import worker
from orchestrator.parallel.engine import WholeEngine, check_loss
from orchestrator.parallel.figures import Wishes
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.optimizer import build_optimizer
from orchestrator.parallel.step import Stepper
from orchestrator.parallel.world import World, choose_device, seed_all
from orchestrator.parallel.wrap import lay
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.model import Model
from orchestrator.plan.training import SGD, AdamW
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

ALONE = World(0, 1, torch.device("cpu"))
NewRun = Callable[[], str]


class Weighted(Digits):
    """Counts only images of small digits, with a total and a weight."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        counted = (batch["label"] < 5).float()
        losses = F.cross_entropy(model(batch["pixels"]), batch["label"], reduction="none")
        return (losses * counted).sum(), counted.sum()


def random_batch(num_samples: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    return {
        "pixels": torch.rand(num_samples, 64, generator=generator),
        "label": torch.randint(0, 10, (num_samples,), generator=generator),
    }


def gradient_of_step(job: Job, max_norm: float, cuts: int) -> tuple[Tensor, float]:
    """The way that a step with rate 1 goes, flat, and the norm that it reports."""
    seed_all(1)
    model = job.model()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    size = 12 // cuts
    layout = Layout(Mesh(), ALONE)
    laid = lay(job, model, layout, Model())
    engine = WholeEngine(laid.modules[0], ALONE, 0, size, cuts, bf16=False)
    optimizer = build_optimizer(laid.parts.parameters(), SGD(lr=1.0))
    stepper = Stepper(laid, engine, optimizer, layout, size, max_norm)
    whole = random_batch(12)
    parts = [{k: v[i : i + size] for k, v in whole.items()} for i in range(0, 12, size)]
    norm = stepper.step(0, parts, 1.0, Wishes()).read().gradient_norm
    return before - nn.utils.parameters_to_vector(model.parameters()).detach(), norm


@pytest.mark.parametrize("job", [Digits(4), Weighted(4)])
@pytest.mark.parametrize("max_norm", [0.0, 0.01, 1e6])
@pytest.mark.parametrize("cuts", [1, 3])
def test_gradients_are_clipped_as_torch_clips_them(job: Job, max_norm: float, cuts: int) -> None:
    seed_all(1)
    model = job.model()
    loss, weight = check_loss(job.loss(model, random_batch(12)))
    (loss if weight is None else loss / weight).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm or float("inf"))
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    gradient, reported = gradient_of_step(job, max_norm, cuts)
    assert reported == pytest.approx(float(norm), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_that_weighs_nothing_moves_nothing() -> None:
    class Blind(Weighted):
        def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            total, weight = super().loss(model, batch)
            return total * 0, weight * 0

    gradient, norm = gradient_of_step(Blind(4), 1.0, 1)
    assert norm == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "outcome", [None, 1.0, torch.ones(3), (torch.ones(()), 3), (torch.ones(()), torch.ones(2))]
)
def test_a_loss_of_another_form_is_refused(outcome: Any) -> None:
    with pytest.raises(TypeError, match="scalar tensor"):
        check_loss(outcome)


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = build_optimizer(dict(model.named_parameters()), AdamW(weight_decay=0.1)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]
    with pytest.raises(TypeError, match="no parameter that requires a gradient"):
        build_optimizer({}, AdamW())


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device(0) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(0.5) == "cuda:0"
    with pytest.raises(InfeasibleError, match="worker 1 of this machine sees 1 CUDA devices"):
        choose_device(1, local_rank=1)


def test_bf16_trains_and_keeps_parameters_in_float32(stores: Stores, new_run: NewRun) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        plan = plan_of(GPT, f"training.precision={precision}", "training.workers=1")
        _, channel = run_here(plan, load_job(plan), stores.gpt, new_run())
        losses[precision] = channel.losses
    assert losses["bf16"] != losses["fp32"]
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=0.02)
    assert losses["bf16"][-1] < losses["bf16"][0] - 0.5


def test_figures_read_a_step_late_are_the_same(
    stores: Stores, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, whose queue is never waited for: same records, same checkpoints."""
    plan = plan_of(DIGITS, "training.workers=1")
    job, runs = load_job(plan), {}
    for lag in (0, 1):
        late = type(
            "Late", (worker.Worker,), {"lag": property(lambda _, n=lag: n, lambda *_: None)}
        )
        monkeypatch.setattr("orchestrator.parallel.loop.Worker", late)
        whole = run_here(plan, job, stores.digits, new_run())
        run = new_run()
        channel = MemoryChannel(Storage.open(run), stop_after=5)
        stopped = run_here(plan, job, stores.digits, run, channel=channel)
        runs[lag] = (whole[1].losses, whole[0].metrics, stopped[1].losses)
        assert stopped[0].stopped
        assert len(stopped[1].losses) == stopped[0].step == 5 + 2 * lag
    assert runs[1][:2] == runs[0][:2]
    assert runs[1][2][:5] == runs[0][2]


def test_a_stop_at_the_last_step_is_an_end(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "training.steps=4")
    run = new_run()
    channel = MemoryChannel(Storage.open(run), stop_after=4)
    result, _ = run_here(plan, load_job(plan), stores.digits, run, channel=channel)
    assert not result.stopped
    assert result.metrics.keys() == {"val_loss", "val_accuracy"}


def test_checkpoints_come_when_they_are_due(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(
        DIGITS, "training.workers=1", "training.steps=7", "coordination.checkpoint.every=3"
    )
    result, channel = run_here(plan, load_job(plan), stores.digits, new_run())
    assert [manifest.step for manifest in channel.manifests] == [3, 6, 7]
    assert [record.step for record in channel.evaluations] == [3, 6, 7]
    assert result.checkpoint == channel.manifests[-1].folder
    assert channel.starts[0].num_train == 160
    assert channel.starts[0].accumulation * channel.starts[0].micro_batch == 16


def test_without_held_out_samples_there_are_no_metrics(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "training.steps=2", "training.evaluate.samples=0")
    result, channel = run_here(plan, load_job(plan), stores.digits, new_run())
    assert result.metrics == {}
    assert channel.evaluations == []


class Diverging(Digits):
    """Its loss is not a number from the third call on."""

    calls = 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        return super().loss(model, batch) * (float("nan") if self.calls >= 3 else 1.0)


def test_a_loss_that_is_not_finite_stops_without_a_checkpoint(
    stores: Stores, new_run: NewRun
) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "training.micro_batch=16",
                   "coordination.checkpoint.every=1", "training.evaluate.samples=0",
                   "training.non_finite.max_skips=0")  # fmt: skip
    run = new_run()
    channel = MemoryChannel(Storage.open(run))
    with pytest.raises(NotFinite, match=r"in step 3 \(loss nan, .*; step 2 is kept"):
        run_here(plan, Diverging(4), stores.digits, run, channel=channel)
    assert [manifest.step for manifest in channel.manifests] == [1, 2]


class Buggy(Digits):
    """Has a bug."""

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {"accuracy": batch["lable"]}


def test_the_job_s_own_exception_comes_out_unchanged(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "training.steps=1")
    with pytest.raises(KeyError, match="lable") as caught:
        run_here(plan, Buggy(4), stores.digits, new_run())
    assert caught.traceback[-1].name == "metrics"


def test_seeds_depend_on_every_number() -> None:
    drawn = set()
    for place in [(0, 0), (0, 1), (1, 0), (2**63 - 1, 2**40)]:
        seed_all(*place)
        again = (torch.rand(1).item(), np.random.rand(), __import__("random").random())
        seed_all(*place)
        assert again == (torch.rand(1).item(), np.random.rand(), __import__("random").random())
        drawn.add(again)
    assert len(drawn) == 4
