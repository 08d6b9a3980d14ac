"""A loss that is not a number, on one worker: all skip, all roll back, or all stop, together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gloo_gang import Gang
from non_finite_cases import Poisoned, fingerprint, token_marks
from small_runs import DIGITS, GPT, MemoryChannel, Stores, plan_of, run_here

from orchestrator.feed.cursor import Order
from orchestrator.feed.store import SampleStore
from orchestrator.parallel import worker
from orchestrator.parallel.checkpoint import load_model
from orchestrator.storage import Storage

pytestmark = pytest.mark.gloo

NewRun = Callable[[], str]
CASE = "non_finite_cases:poisoned_case"
B = 16
ROLLBACK = ("training.non_finite.then=rollback", "training.steps=14",
            "coordination.checkpoint.every=5")  # fmt: skip
BAD = (7, 8, 9, 10)
"""Four in a row, of which three are allowed."""


@pytest.fixture(scope="module")
def order(stores: Stores) -> Order:
    plan = plan_of(DIGITS)
    count = SampleStore.open(Storage.open(stores.digits)).num_samples
    return Order(plan.seed, count, plan.data.holdout)


@pytest.fixture(scope="module")
def poison_of(stores: Stores, order: Order) -> Callable[..., list[float]]:
    """Fingerprints of the last sample of each of some steps: only the last rank sees it."""
    store = SampleStore.open(Storage.open(stores.digits))

    def of(*steps: int) -> list[float]:
        ids = np.concatenate([order.train_ids(step * B - 1, step * B) for step in steps])
        pixels = torch.from_numpy(store.take(ids)["pixels"])
        return [float(mark) for mark in fingerprint(pixels)]

    return of


def bad_steps(records: list[dict[str, Any]]) -> list[int]:
    return [r["step"] for r in records if not (math.isfinite(r["loss"] + r["grad_norm"]))]


def notes(rank: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [note for note in rank["notes"] if note["kind"] == kind]


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_one_worker_s_bad_step_is_skipped_by_all_and_training_goes_on(
    gang: Gang, stores: Stores, new_run: NewRun, poison_of: Any, how: str
) -> None:
    runs = {}
    for size in (1, 2, 4):
        ranks = gang.run(CASE, size, DIGITS, (), stores.digits, new_run(), poison_of(5), how)
        records = ranks[0]["records"]
        skipped = bad_steps(records)
        assert skipped[0] == 5
        assert len(skipped) == 2, "once an epoch"
        for rank in ranks:
            assert rank["error"] == ""
            assert bad_steps(rank["records"]) == skipped
            assert [note["step"] for note in notes(rank, "skipped")] == skipped
        runs[size] = np.array([[r["loss"], r["lr"]] for r in records])
        assert all(math.isfinite(v) for e in ranks[0]["evaluations"] for v in e.values())
        if how == "gradient":
            assert math.isfinite(records[4]["loss"])
    np.testing.assert_allclose(runs[2], runs[1], rtol=1e-4)
    np.testing.assert_allclose(runs[4], runs[1], rtol=1e-4)
    clean = gang.run(CASE, 1, DIGITS, (), stores.digits, new_run(), [])[0]["records"]
    assert runs[1][:4, 0].tolist() == [r["loss"] for r in clean[:4]]
    assert runs[1][:, 1].tolist() == [r["lr"] for r in clean], "rates go on by step number"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("bad", [1, 5])
def test_the_state_after_a_skipped_step_is_that_before_it_bit_by_bit(
    stores: Stores, new_run: NewRun, poison_of: Any, bad: int, optimizer: str
) -> None:
    """Parameters, optimizer state with its step count, and running means."""
    momentum = ", momentum: 0.9" if optimizer == "sgd" else ""
    overrides = ("training.workers=1", "training.evaluate.samples=0",
                 f"training.optimizer={{kind: {optimizer}, lr: 1e-3{momentum}}}")  # fmt: skip
    plan = plan_of(DIGITS, *overrides)
    states = []
    for steps in (bad - 1, bad):
        if steps == 0:
            continue
        run = new_run()
        channel = MemoryChannel(Storage.open(run), stop_after=steps)
        job = Poisoned(poison_of(bad), "norm")
        result, _ = run_here(plan, job, stores.digits, run, channel=channel)
        assert result.step == steps
        model, _ = load_model(job, Storage.open(run).child(result.checkpoint or ""))
        states.append(model.state_dict())
        files = channel.manifests[-1].files
        states[-1]["files"] = sorted(f.sha256 for f in files if f.name.endswith(".distcp"))
    last = states[-1]
    assert all(bool(torch.isfinite(v).all()) for k, v in last.items() if k != "files")
    if bad > 1:
        assert states[0].pop("files") == states[1].pop("files"), "optimizer state included"
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("size", [1, 4])
def test_a_rollback_passes_over_the_window_and_nothing_else(
    gang: Gang, stores: Stores, new_run: NewRun, poison_of: Any, order: Order, size: int
) -> None:
    run, poison = new_run(), poison_of(*BAD)
    ranks = gang.run(CASE, size, DIGITS, ROLLBACK, stores.digits, run, poison)
    for rank in ranks:
        assert rank["error"] == ""
        assert [r["step"] for r in rank["records"]] == [*range(1, 11), *range(6, 15)]
        assert [note["step"] for note in notes(rank, "skipped")][:4] == list(BAD)
        (told,) = notes(rank, "rolled-back")
        assert "from step 10 to step 5; 64 samples of steps 7 to 10" in told["text"]
        assert "(1 of 2 rollbacks)" in told["text"]
    manifests = ranks[0]["manifests"]
    assert [m.step for m in manifests] == [5, 10, 14]
    assert [m.skipped for m in manifests] == [(), ((96, 160),), ((96, 160),)]
    assert [m.consumed for m in manifests] == [80, 160 + 64, 14 * B + 64]
    used = _ids(ranks)
    assert used[:10] == [order.train_ids(s * B, s * B + B).tolist() for s in range(10)]
    assert used[10] == used[5], "step 6 again"
    assert ranks[0]["records"][10]["loss"] == ranks[0]["records"][5]["loss"]
    after = [order.train_ids(s * B + 64, s * B + 64 + B).tolist() for s in range(6, 14)]
    assert used[11:] == after

    # A later attempt, on other workers, keeps what was passed over.
    more = (*ROLLBACK, "training.steps=16")
    rest = gang.run(CASE, 2, DIGITS, more, stores.digits, run, poison, "loss",
                    manifests[-1].folder, 2)  # fmt: skip
    assert _ids(rest) == [
        order.train_ids(s * B + 64, s * B + 64 + B).tolist() for s in range(14, 16)
    ]
    assert rest[0]["manifests"][-1].skipped == ((96, 160),)


def test_figures_that_come_late_lead_to_the_same_state(
    stores: Stores, new_run: NewRun, poison_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator: a step more is under way when the guard speaks, and never was."""
    plan = plan_of(DIGITS, *ROLLBACK, "training.workers=1")
    runs = []
    for lag in (0, 1):
        late = type(
            "Late", (worker.Worker,), {"lag": property(lambda _, n=lag: n, lambda *_: None)}
        )
        monkeypatch.setattr("orchestrator.parallel.loop.Worker", late)
        run = new_run()
        job = Poisoned(poison_of(*BAD))
        result, channel = run_here(plan, job, stores.digits, run)
        last = channel.manifests[-1]
        taken = {record.step: record.ids.tolist() for record in channel.records}
        runs.append((last.skipped, last.consumed, result.metrics, taken))
    assert runs[0] == runs[1]


def test_without_a_checkpoint_there_is_nothing_to_roll_back_to(
    gang: Gang, stores: Stores, new_run: NewRun, poison_of: Any
) -> None:
    overrides = (*ROLLBACK, "coordination.checkpoint.every=12")
    for rank in gang.run(CASE, 2, DIGITS, overrides, stores.digits, new_run(), poison_of(*BAD)):
        assert "no checkpoint yet" in rank["error"]
        assert "nothing to roll back to" in rank["error"]
        assert rank["manifests"] == []


def test_after_the_last_rollback_the_run_ends_with_what_it_saw(
    gang: Gang, stores: Stores, new_run: NewRun, poison_of: Any
) -> None:
    """Four steps are bad where two are too many, and one rollback is allowed."""
    overrides = (*ROLLBACK, "training.non_finite.max_skips=1",
                 "training.non_finite.max_rollbacks=1")  # fmt: skip
    poison = poison_of(*BAD)
    for rank in gang.run(CASE, 2, DIGITS, overrides, stores.digits, new_run(), poison):
        assert [r["step"] for r in rank["records"]] == [*range(1, 9), *range(6, 9)]
        assert len(notes(rank, "rolled-back")) == 1
        assert "step 7 (loss nan" in rank["error"]
        assert "1 of max_rollbacks=1 used; step 5 is kept" in rank["error"]


def test_no_checkpoint_is_taken_in_a_row_of_skipped_steps(
    stores: Stores, new_run: NewRun, poison_of: Any
) -> None:
    """One that is due is put off until a step is good; the last step has one all the same."""
    overrides = ("training.workers=1", "training.steps=9", "coordination.checkpoint.every=3")
    plan = plan_of(DIGITS, *overrides)
    _, channel = run_here(plan, Poisoned(poison_of(3, 4, 9)), stores.digits, new_run())
    assert [manifest.step for manifest in channel.manifests] == [5, 6, 9]


MESHES = {
    "replicate 2": (2, False),
    "shard 2": (2, False),
    "shard 2, tensor 2": (4, False),
    "pipeline 2, replicate 2": (4, False),
    "context 2": (2, False),
    "shard 2, on the device": (2, True),
    "shard 2, tensor 2, on the device": (4, True),
}


@pytest.fixture(scope="module")
def poisoned_window(stores: Stores) -> list[int]:
    """The mark of the last sample of step 5."""
    store = SampleStore.open(Storage.open(stores.gpt))
    plan = plan_of(GPT)
    ids = Order(plan.seed, store.num_samples, plan.data.holdout).train_ids(5 * B - 1, 5 * B)
    return token_marks(torch.from_numpy(store.take(ids)["tokens"])).tolist()


@pytest.mark.parametrize("mesh", MESHES)
def test_all_ranks_of_a_mesh_skip_together(
    gang: Gang, stores: Stores, new_run: NewRun, poisoned_window: list[int], mesh: str
) -> None:
    """Losses and norms after it are those of one process that skipped the same step."""
    size, on_device = MESHES[mesh]
    degrees = [word.split() for word in mesh.split(", ") if word[-1].isdigit()]
    model = [f"model.{name}={degree}" for name, degree in degrees]
    common = ("training.steps=8", "training.evaluate.samples=0", "training.micro_batch=4")
    case = "non_finite_cases:poisoned_gpt_case"
    (alone,) = gang.run(case, 1, GPT, (*common, "training.workers=1"), stores.gpt, new_run(),
                        poisoned_window, False)  # fmt: skip
    ranks = gang.run(case, size, GPT, (*common, "model.replicate=1", *model,
                     f"training.workers={size}"), stores.gpt, new_run(), poisoned_window,
                     on_device)  # fmt: skip
    assert alone["notes"] == [5]
    for rank in ranks:
        assert rank["notes"] == [5]
        np.testing.assert_allclose(rank["losses"], alone["losses"], rtol=1e-4)
        np.testing.assert_allclose(rank["norms"], alone["norms"], rtol=1e-3)


def _ids(ranks: list[dict[str, Any]]) -> list[list[int]]:
    """Sample ids of each step that was taken, in the order of ranks."""
    steps = zip(*(rank["ids"] for rank in ranks), strict=True)
    return [[i for _, ids in parts for i in ids] for parts in steps]
