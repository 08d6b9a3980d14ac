"""Random histories of a run: kills, stops, broken checkpoints, other numbers of workers and meshes.

Whatever happens, each epoch has every sample once and the losses are those of one worker that was
never interrupted. A history is a function of its seed, which every failure shows; to run one
again: ``AXIS_SCHEDULE_SEED=123 pytest tests/parallel/test_exactly_once.py``.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_cases import End
from small_runs import GPT, Stores, plan_of

from orchestrator.feed.cursor import Order, share
from orchestrator.feed.store import SampleStore
from orchestrator.feed.windows import NO_WINDOWS
from orchestrator.parallel.manifest import read_manifest
from orchestrator.parallel.upkeep import list_checkpoints
from orchestrator.storage import Storage

NewRun = Callable[[], str]

NUM_SCHEDULES = 20
STEPS, BATCH = 24, 16
PLAN = (
    "data.holdout=0.1",
    f"training.steps={STEPS}",
    "training.evaluate.samples=0",
    "training.micro_batch=4",
    "training.workers=[1, 4]",
)
MESHES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (1, ()),
    (2, ()),
    (4, ()),
    (2, ("model.replicate=1", "model.shard=2")),
    (4, ("model.replicate=2", "model.shard=2")),
    (2, ("model.tensor=2",)),
    (4, ("model.replicate=1", "model.shard=2", "model.tensor=2")),
    (4, ("model.replicate=2", "model.pipeline=2")),
    (2, ("model.context=2",)),
)
"""Workers and how they are arranged."""

SEEDS = (
    [int(os.environ["AXIS_SCHEDULE_SEED"])]
    if "AXIS_SCHEDULE_SEED" in os.environ
    else list(range(NUM_SCHEDULES))
)


@dataclass(frozen=True)
class Segment:
    """One attempt: on which mesh, how often it saves and how it ends."""

    workers: int
    mesh: tuple[str, ...]
    every: int
    asynchronous: bool
    end: End

    def overrides(self) -> tuple[str, ...]:
        waits = "true" if self.asynchronous else "false"
        return (*PLAN, *self.mesh, f"training.workers={self.workers}",
                f"coordination.checkpoint={{every: {self.every}, asynchronous: {waits}}}",
                )  # fmt: skip


def random_schedule(seed: int) -> list[Segment]:
    """A few attempts that end early, then one that does not.

    The first few seeds hold each kind of ending and each mesh in turn, so that none is left to
    chance.
    """
    rng = random.Random(f"schedule:{seed}")
    segments = []
    for number in range(rng.randint(2, 3)):
        kind = ("kill", "stop", "interrupt")[(seed + number) % 3]
        workers, mesh = MESHES[(seed + number) % len(MESHES)] if number == 0 else rng.choice(MESHES)
        after = rng.randint(1, STEPS - 1)
        every = rng.choice([2, 3, 5, 7])
        segments.append(Segment(workers, mesh, every, rng.random() < 0.5, End(kind, after)))
    workers, mesh = rng.choice(MESHES)
    segments.append(Segment(workers, mesh, STEPS, True, End("finish")))
    return segments


@dataclass
class History:
    """What counts of all attempts: of each step the attempt that had the last word on it."""

    ids: dict[int, list[int]] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    taken: Counter[int] = field(default_factory=Counter)
    endings: list[str] = field(default_factory=list)

    def add(self, ranks: list[dict[str, Any]]) -> None:
        self.endings.append(ranks[0]["how"])
        assert {rank["how"] for rank in ranks} == {ranks[0]["how"]}
        first: dict[int, dict[tuple[int, ...], None]] = {}
        for rank in ranks:
            for step, ids in rank["ids"]:
                first.setdefault(step, {})[tuple(ids)] = None  # copies of a share count once
        for step, shares in first.items():
            self.ids[step] = [number for share_of in shares for number in share_of]
            self.taken[step] += 1
        for (step, _), loss in zip(ranks[0]["ids"], ranks[0]["losses"], strict=True):
            self.losses[step] = loss


@pytest.fixture(scope="module")
def order(stores: Stores) -> Order:
    plan = plan_of(GPT, *PLAN)
    count = SampleStore.open(Storage.open(stores.gpt)).num_samples
    return Order(plan.seed, count, plan.data.holdout)


@pytest.fixture(scope="module")
def uninterrupted(
    gang: Gang, stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> list[float]:
    """The losses of one worker that nobody disturbs."""
    segment = Segment(1, (), STEPS, False, End("finish"))
    run = str(tmp_path_factory.mktemp("whole") / "run")
    (rank,) = gang.run("schedule_cases:attempt_case", 1, GPT, segment.overrides(), stores.gpt,
                       run, None, 1, segment.end)  # fmt: skip
    return list(rank["losses"])


@pytest.mark.gloo
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_computes_what_an_undisturbed_run_computes(
    gang: Gang, stores: Stores, new_run: NewRun, order: Order, uninterrupted: list[float], seed: int
) -> None:
    print(f"AXIS_SCHEDULE_SEED={seed}")
    run, history = new_run(), History()
    storage = Storage.open(run)
    for attempt, segment in enumerate(random_schedule(seed), start=1):
        print(segment)
        resume = next(iter(list_checkpoints(storage)), None)
        begin = read_manifest(storage.child(resume)).step if resume else 0
        if begin == STEPS:
            break
        ranks = gang.run("schedule_cases:attempt_case", segment.workers, GPT,
                         segment.overrides(), stores.gpt, run, resume, attempt,
                         segment.end)  # fmt: skip
        assert ranks[0]["ids"][0][0] == begin + 1, "goes on where the last commit was"
        history.add(ranks)
    assert history.endings[-1] == "finished"
    assert_each_epoch_once(order, history.ids)
    found = [history.losses[step] for step in range(1, STEPS + 1)]
    np.testing.assert_allclose(found, uninterrupted, rtol=1e-4)


def test_the_schedules_hold_every_kind_of_ending_and_every_mesh() -> None:
    schedules = [random_schedule(seed) for seed in range(NUM_SCHEDULES)]
    segments = [segment for schedule in schedules for segment in schedule]
    assert {segment.end.kind for segment in segments} == {"kill", "stop", "interrupt", "finish"}
    assert {(segment.workers, segment.mesh) for segment in segments} == set(MESHES)
    changes = [
        (before.workers, after.workers)
        for schedule in schedules
        for before, after in itertools.pairwise(schedule)
    ]
    assert any(after > before for before, after in changes), "grows"
    assert any(after < before for before, after in changes), "shrinks"


def assert_each_epoch_once(order: Order, ids: dict[int, list[int]]) -> None:
    """Every step has its batch, and each whole epoch every sample exactly once."""
    assert sorted(ids) == list(range(1, STEPS + 1))
    stream = [number for step in sorted(ids) for number in ids[step]]
    assert len(stream) == STEPS * BATCH
    assert len(stream) > order.num_train, "more than one epoch"
    for begin in range(0, len(stream), order.num_train):
        epoch = stream[begin : begin + order.num_train]
        expected = order.train_ids(begin, begin + len(epoch))
        assert Counter(epoch) == Counter(expected.tolist()), "none missing, none twice"
        assert max(Counter(epoch).values()) == 1


# The same without processes: what a history does to the cursor alone, by the hundreds.

ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 4, 8]),  # batch ranks
        st.integers(1, 12),  # steps taken
        st.integers(0, 5),  # steps since the last commit, lost with the attempt
        st.integers(0, 3),  # bad steps at its end, passed over by a rollback
    ),
    max_size=8,
)


@pytest.mark.unit
@settings(max_examples=300, deadline=None)
@given(ATTEMPTS, st.integers(1, 60), st.integers(0, 2**32))
def test_no_history_loses_or_repeats_a_position(
    attempts: Iterable[tuple[int, int, int, int]], num_train: int, seed: int
) -> None:
    """Positions that were used or passed over are all up to the last one, each once."""
    batch, committed, windows = 8, 0, NO_WINDOWS
    used: dict[int, list[int]] = {}
    for degree, steps, lost, bad in attempts:
        for step in range(committed, committed + steps):
            turns = [
                turn for rank in range(degree) for turn in range(*share(step, batch, rank, degree))
            ]
            used[step] = windows.positions(np.array(turns, dtype=np.int64)).tolist()
        reached = committed + steps
        committed = reached - min(lost, steps)
        if bad and reached - bad >= committed:
            windows = windows.passing_over((reached - bad) * batch, reached * batch)
        used = {step: positions for step, positions in used.items() if step < committed}
    end = windows.position(committed * batch - 1) + 1 if committed else 0
    passed = [g for start, stop in windows.passed for g in range(start, min(stop, end))]
    positions = sorted([g for each in used.values() for g in each] + passed)
    assert positions == list(range(end))
    order = Order(seed, num_train, 0.0)
    ids = order.ids_at(np.arange(end, dtype=np.int64)).tolist()
    for begin in range(0, end - num_train + 1, num_train):
        assert sorted(ids[begin : begin + num_train]) == list(range(num_train))
