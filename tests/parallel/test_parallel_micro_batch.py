"""Where memory did not suffice, smaller micro-batches must compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from mesh_runs import overrides
from small_runs import DIGITS, GPT, Stores, plan_of, run_here

from orchestrator.job_import import load_job
from orchestrator.parallel.worker import Worker
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.refusal import Refusal

NewRun = Callable[[], str]


def train(gang: Gang, size: int, more: tuple[str, ...], store: str, run: str, cap: int | None,
          resume: str | None = None, attempt: int = 1, stops: Any = None) -> Any:  # fmt: skip
    ranks = gang.run("train_case", size, GPT, more, store, run, resume, attempt, stops, None, cap)
    assert all(rank["losses"] == ranks[0]["losses"] for rank in ranks)
    return ranks[0]


@pytest.mark.gloo
@pytest.mark.parametrize(
    ("mesh", "cap", "shape"),
    [
        (Mesh(replicate=2), 3, (8, 2, 4)),  # 8 samples a rank, which 3 does not divide
        (Mesh(shard=2), 1, (8, 1, 8)),
        (Mesh(pipeline=2), 1, (16, 1, 16)),
    ],
    ids=["replicate", "shard", "pipeline"],
)
def test_losses_are_those_of_the_plan_s_own_micro_batch(
    gang: Gang, stores: Stores, new_run: NewRun, mesh: Mesh, cap: int, shape: tuple[int, ...]
) -> None:
    more = overrides(mesh, "training.micro_batch=auto")
    whole = train(gang, mesh.size, more, stores.gpt, new_run(), None)
    small = train(gang, mesh.size, more, stores.gpt, new_run(), cap)
    (started,) = small["starts"]
    assert (started["per_worker"], started["micro_batch"], started["accumulation"]) == shape
    assert whole["starts"][0]["micro_batch"] > cap
    np.testing.assert_allclose(small["losses"], whole["losses"], rtol=1e-6)
    assert small["result"].metrics == pytest.approx(whole["result"].metrics, rel=1e-6)
    assert small["ids"] == whole["ids"]


@pytest.mark.gloo
def test_a_run_that_goes_on_with_smaller_ones_follows_the_same_losses(
    gang: Gang, stores: Stores, new_run: NewRun
) -> None:
    """As after a worker that ran out of memory: stopped after step 7, resumed with a cap."""
    more = overrides(Mesh(replicate=2), "training.micro_batch=auto")
    whole = train(gang, 2, more, stores.gpt, new_run(), None)
    run = new_run()
    first = train(gang, 2, more, stores.gpt, run, None, None, 1, {1: 7})
    rest = train(gang, 2, more, stores.gpt, run, 2, first["result"].checkpoint, 2)
    assert rest["starts"][0]["micro_batch"] == 2
    np.testing.assert_allclose(first["losses"] + rest["losses"], whole["losses"], rtol=1e-6)


@pytest.mark.unit
def test_a_cap_above_the_plan_s_own_changes_nothing(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "training.micro_batch=4", "training.steps=1")
    _, channel = run_here(plan, load_job(plan), stores.digits, new_run(), micro_batch=16)
    assert channel.starts[0].micro_batch == 4


@pytest.mark.unit
def test_what_cannot_be_cut_so_small_is_refused_before_the_first_step(
    stores: Stores, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "take_step", lambda *_: pytest.fail("a step was taken"))
    plan = plan_of(DIGITS, "training.workers=1")
    with pytest.raises(Refusal, match="no micro-batch is as small as 0"):
        run_here(plan, load_job(plan), stores.digits, new_run(), micro_batch=0)
