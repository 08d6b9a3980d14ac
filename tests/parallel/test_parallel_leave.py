"""Workers that are asked to leave with the next checkpoint do so together, at no extra cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gloo_gang import Gang
from small_runs import DIGITS, MemoryChannel, Stores, plan_of, run_here
from torch import Tensor, nn

from jobs.digits import Digits
from orchestrator.job import Batch
from orchestrator.job_import import load_job
from orchestrator.storage import Storage

NewRun = Callable[[], str]


def train(gang: Gang, more: tuple[str, ...], store: str, run: str, leaves: Any = None,
          resume: str | None = None, attempt: int = 1) -> list[Any]:  # fmt: skip
    return gang.run(
        "train_case", 2, DIGITS, more, store, run, resume, attempt, None, None, None, leaves
    )


@pytest.mark.gloo
@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_one_worker_s_wish_takes_all_out_with_the_checkpoint_of_step_10(
    gang: Gang, stores: Stores, new_run: NewRun, asynchronous: str
) -> None:
    more = (f"coordination.checkpoint.asynchronous={asynchronous}",)
    whole = train(gang, more, stores.digits, new_run())[0]
    run = new_run()
    ranks = train(gang, more, stores.digits, run, {1: 4})
    for rank in ranks:
        assert rank["steps"] == list(range(1, 11)), "training went on until it was due"
        assert rank["result"].stopped
        assert rank["result"].step == 10
        assert [record["step"] for record in rank["evaluations"]] == [10]
    assert [manifest.step for manifest in ranks[0]["manifests"]] == [10], "and no other one"
    left = ranks[0]["result"]
    assert left.checkpoint == ranks[0]["manifests"][0].folder
    rest = train(gang, more, stores.digits, run, None, left.checkpoint, 2)[0]
    assert ranks[0]["losses"] + rest["losses"] == whole["losses"]
    assert not rest["result"].stopped


@pytest.mark.gloo
def test_by_the_clock_they_leave_with_the_first_one_that_is_due(
    gang: Gang, stores: Stores, new_run: NewRun
) -> None:
    more = ("coordination.checkpoint={every: auto, mtbf: 1s}", "training.steps=400",
            "training.evaluate.samples=0")  # fmt: skip
    ranks = train(gang, more, stores.digits, new_run(), {1: 1})
    (manifest,) = ranks[0]["manifests"]
    for rank in ranks:
        assert rank["result"].stopped
        assert rank["result"].step == manifest.step == rank["steps"][-1]
    assert manifest.step < 400


@pytest.mark.unit
def test_a_wish_that_is_taken_back_before_the_checkpoint_is_none(
    stores: Stores, new_run: NewRun
) -> None:
    class Wavering(MemoryChannel):
        def leave_at_checkpoint(self) -> bool:
            return 3 <= len(self.records) < 6

    plan = plan_of(DIGITS, "training.workers=1")
    run = new_run()
    channel = Wavering(Storage.open(run))
    result, _ = run_here(plan, load_job(plan), stores.digits, run, channel=channel)
    assert not result.stopped
    assert result.step == 20


@pytest.mark.unit
def test_leaving_with_the_last_checkpoint_is_an_end(stores: Stores, new_run: NewRun) -> None:
    plan = plan_of(DIGITS, "training.workers=1", "coordination.checkpoint.every=50")
    run = new_run()
    channel = MemoryChannel(Storage.open(run), leave_after=2)
    result, _ = run_here(plan, load_job(plan), stores.digits, run, channel=channel)
    assert not result.stopped
    assert [manifest.step for manifest in channel.manifests] == [20]


class Blinking(Digits):
    """Its loss is not a number from the fourth to the sixth call."""

    calls = 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        return super().loss(model, batch) * (float("nan") if 4 <= self.calls <= 6 else 1.0)


@pytest.mark.unit
def test_nobody_leaves_without_a_checkpoint(stores: Stores, new_run: NewRun) -> None:
    """The one that is due after step 5 is put off while steps are skipped, and so is leaving."""
    plan = plan_of(DIGITS, "training.workers=1", "training.micro_batch=16",
                   "coordination.checkpoint.every=5", "training.evaluate.samples=0",
                   "training.non_finite.max_skips=5")  # fmt: skip
    run = new_run()
    channel = MemoryChannel(Storage.open(run), leave_after=1)
    result, _ = run_here(plan, Blinking(4), stores.digits, run, channel=channel)
    assert result.stopped
    assert result.step == 7
    assert [manifest.step for manifest in channel.manifests] == [7]
