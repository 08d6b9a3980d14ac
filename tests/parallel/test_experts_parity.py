"""A model with experts follows a single process, whichever way it is laid over the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gloo_gang import Gang
from mesh_runs import LOSSES, NORMS, Outcome, check_same, overrides, train_on
from small_runs import Stores

from orchestrator.plan.mesh import Mesh

pytestmark = pytest.mark.gloo

NewRun = Callable[[], str]

MOE = """
name: moe
job: jobs.moe:MoEGPT
options:
  {layers: 2, hidden: 32, heads: 4, kv_heads: 2, ffn: 32, seq_len: 24, experts: 4, top_k: 2,
   balance: 0.3, capacity_factor: 1.25}
data: {source: {kind: text, path: .}, holdout: 0.1}
training:
  workers: [1, 8]
  global_batch: 16
  steps: 20
  optimizer: {lr: 3e-3}
  schedule: {warmup: 4}
  evaluate: {samples: 9}
coordination: {checkpoint: {every: 10}}
"""
"""With balance loss and capacity that tell: about a tenth of the choices are dropped."""


@pytest.fixture(scope="module")
def mixture_alone(gang: Gang, stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same plan on one process."""
    run = str(tmp_path_factory.mktemp("alone"))
    outcome = train_on(gang, Mesh(), stores.gpt, run, MOE)
    assert outcome.metrics["val_dropped"] > 0.05
    return outcome


@pytest.mark.parametrize(
    ("of", "more"),
    [
        (Mesh(replicate=4, expert=2), ()),
        (Mesh(replicate=2, shard=2, expert=2), ("model.activation_checkpoint=full",)),
        pytest.param(
            Mesh(shard=4, expert=4),
            ("model.activation_checkpoint=selective",),
            marks=pytest.mark.slow,
        ),
        pytest.param(Mesh(context=2, replicate=2, expert=2), (), marks=pytest.mark.slow),
        pytest.param(
            Mesh(context=2, shard=2, expert=4),
            ("model.activation_checkpoint=full",),
            marks=pytest.mark.slow,
        ),
        pytest.param(Mesh(tensor=2, shard=2, expert=2), (), marks=pytest.mark.slow),
        pytest.param(Mesh(tensor=2, context=2), (), marks=pytest.mark.slow),
        (Mesh(pipeline=2, shard=2, expert=2), ()),
        pytest.param(Mesh(shard=4), (), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_experts_on_a_mesh_follow_a_single_process(
    gang: Gang,
    stores: Stores,
    new_run: NewRun,
    mixture_alone: Outcome,
    of: Mesh,
    more: tuple[str, ...],
    record_property: Callable[[str, Any], None],
) -> None:
    """Loss and norm of each step, the last evaluation, and the final parameters."""
    check_same(train_on(gang, of, stores.gpt, new_run(), MOE, more), mixture_alone, record_property)


@pytest.mark.parametrize(
    ("begun_on", "resumed_on"),
    [
        (Mesh(replicate=2, shard=2, expert=2), Mesh()),
        pytest.param(
            Mesh(replicate=4, expert=4), Mesh(tensor=2, context=2), marks=pytest.mark.slow
        ),
        pytest.param(Mesh(shard=4), Mesh(tensor=2, shard=2, expert=2), marks=pytest.mark.slow),
        (Mesh(pipeline=2, shard=2, expert=2), Mesh(context=2, replicate=2, expert=4)),
    ],
    ids=str,
)
def test_a_run_with_experts_goes_on_on_another_mesh(
    gang: Gang,
    stores: Stores,
    new_run: NewRun,
    mixture_alone: Outcome,
    begun_on: Mesh,
    resumed_on: Mesh,
) -> None:
    """Parameters and optimizer state of experts are put together and cut anew."""
    run = new_run()
    (first, *_) = gang.run(
        "train_case", begun_on.size, MOE, overrides(begun_on), stores.gpt, run, None, 1, {0: 10}
    )
    stopped = first["result"]
    assert stopped.stopped
    (second, *_) = gang.run(
        "train_case",
        resumed_on.size,
        MOE,
        overrides(resumed_on),
        stores.gpt,
        run,
        stopped.checkpoint,
        2,
    )
    assert len(second["losses"]) == 20 - stopped.step > 0
    losses = first["losses"] + second["losses"]
    assert losses == pytest.approx(mixture_alone.losses, rel=LOSSES)
    assert first["norms"] + second["norms"] == pytest.approx(mixture_alone.norms, rel=NORMS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "of",
    [
        Mesh(tensor=2, shard=4, expert=2),
        Mesh(tensor=2, replicate=2, shard=2, expert=4),
        Mesh(pipeline=2, context=2, shard=2, expert=2),
        Mesh(pipeline=2, tensor=2, shard=2, expert=2),
        Mesh(context=2, tensor=2, shard=2, expert=4),
    ],
    ids=str,
)
def test_experts_on_eight_processes_follow_a_single_one(
    gang8: Gang,
    stores: Stores,
    new_run: NewRun,
    mixture_alone: Outcome,
    of: Mesh,
    record_property: Callable[[str, Any], None],
) -> None:
    check_same(train_on(gang8, of, stores.gpt, new_run(), MOE), mixture_alone, record_property)
