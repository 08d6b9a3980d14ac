"""Own work is told apart from waiting for others, on every mesh, whatever the work is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import pytest
from busy_cases import Frozen
from gloo_gang import Gang
from mesh_runs import overrides
from small_runs import DIGITS, GPT, Stores, plan_of, run_here

from jobs.digits import Digits
from orchestrator.coordinator.stragglers import Work, look, watch
from orchestrator.parallel import busy
from orchestrator.parallel.busy import Busy
from orchestrator.parallel.channel import Own
from orchestrator.parallel.local import LocalChannel
from orchestrator.plan.mesh import Mesh
from orchestrator.storage import Storage

NewRun = Callable[[], str]
Rows = Sequence[tuple[float, float | None, float, float]]
COUNTED = Path("/proc/self/schedstat").exists()
needs_count = pytest.mark.skipif(not COUNTED, reason="this system does not count schedstat")

MESHES = {
    "replicate": Mesh(replicate=2),
    "shard": Mesh(shard=2),
    "tensor": Mesh(tensor=2),
    "context": Mesh(context=2),
    "pipeline": Mesh(pipeline=2),
}
CASES = [(name, "computes") for name in MESHES] + [("replicate", "python"), ("replicate", "sleeps")]
EXTRA_SECONDS = 0.2


@needs_count
@pytest.mark.gloo
@pytest.mark.parametrize(("name", "how"), CASES)
def test_the_rank_with_more_to_do_is_the_busy_one(
    gang: Gang, stores: Stores, new_run: NewRun, name: str, how: str
) -> None:
    """Rank 1 has 0.2 s of work more in each step, for which rank 0 waits."""
    mesh = MESHES[name]
    share = 16 // mesh.batch_degree
    options = {"how": how, "seconds": 0.02 * 4 / share, "on": 1, "slow": 11.0}
    more = overrides(mesh, "training.micro_batch=4", "training.steps=6",
                     "training.evaluate.samples=0")  # fmt: skip
    fast, slow = gang.run("busy_cases:busy_case", 2, GPT, more, stores.gpt, new_run(), options)
    assert middle(slow, 0) == pytest.approx(middle(fast, 0), rel=0.2), "a step ends for all"
    assert 0.5 * EXTRA_SECONDS < middle(slow, 1) - middle(fast, 1) < 1.5 * EXTRA_SECONDS
    assert middle(fast, 0) - middle(fast, 1) > 0.5 * EXTRA_SECONDS, "it waited"


def middle(rows: Rows, column: int) -> float:
    values = [row[column] for row in rows[2:]]
    assert None not in values
    return median(values)  # type: ignore[type-var]


@needs_count
@pytest.mark.gloo
@pytest.mark.parametrize("how", ["computes", "sleeps"])
def test_a_rank_that_becomes_twice_as_slow_is_named_after_three_steps(
    gang: Gang, stores: Stores, new_run: NewRun, how: str
) -> None:
    """Two micro-batches a step; from step 9 on they take rank 1 two and a half times as long: with
    what the model itself takes, which is more on a slow machine, still twice as long."""
    options = {"how": how, "seconds": 0.15, "on": 1, "slow": 2.5, "since": 16}
    more = overrides(Mesh(replicate=2), "training.micro_batch=4", "training.steps=14",
                     "training.evaluate.samples=0")  # fmt: skip

    def named() -> list[tuple[int, int | None, str]]:
        ranks = gang.run("busy_cases:busy_case", 2, GPT, more, stores.gpt, new_run(), options)
        lookout, said = watch(["a", "b"], Mesh(replicate=2)), []
        for step, rows in enumerate(zip(*ranks, strict=True), start=1):
            works = [Work(step, rank, *row) for rank, row in enumerate(rows)]
            lookout, found = look(lookout, works, float(step))
            said += [(step, slow.rank, slow.node) for slow in found]
        return said

    # Something else on the machine may slow the other one down just then, or both.
    right = [(step, 1, "b") for step in (9, 10, 11)]
    tries = []
    while len(tries) < 6 and not any(said == [each] for said in tries for each in right):
        tries.append(named())
    assert any(tries[-1] == [each] for each in right), tries


@needs_count
@pytest.mark.gloo
def test_a_process_that_was_stopped_does_not_wait(
    gang: Gang, stores: Stores, new_run: NewRun
) -> None:
    more = ("training.workers=2", "training.steps=4", "training.evaluate.samples=0")
    ranks = gang.run(
        "busy_cases:frozen_case", 2, DIGITS, more, stores.digits, new_run(), Frozen(1, 3, 1.5)
    )
    (step, others), (_, frozen) = ranks[0][2], ranks[1][2]
    assert step > 1.4, "the fault has fired, in step 3"
    assert frozen > 1.4
    assert others < 0.7


def timed(work: Callable[[], object]) -> float:
    watch = Busy("cpu")
    with watch:
        watch.begin()
        work()
        own = watch.end()
    assert own is not None
    return own.seconds


def _arrive(seconds: float = 0.4) -> None:
    """Named as what waits for other workers."""
    time.sleep(seconds)


def _seconds(watch: Busy) -> float:
    own = watch.end()
    assert own is not None
    return own.seconds


def computes() -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < 0.4:
        sum(range(1000))


@needs_count
@pytest.mark.unit
def test_what_the_thread_does_itself_is_its_own_even_asleep() -> None:
    assert timed(computes) > 0.35
    assert timed(lambda: time.sleep(0.4)) > 0.3
    assert timed(_arrive) < 0.1


@needs_count
@pytest.mark.unit
def test_what_was_slept_is_told_as_a_guess() -> None:
    """Half of each step asleep over own work, half waiting, in steps as long as a pause."""
    watch = Busy("cpu")

    def second() -> Own:
        watch.begin()
        for _ in range(25):
            time.sleep(0.02)
            _arrive(0.02)
        own = watch.end()
        assert own is not None
        return own

    with watch:
        found = [second() for _ in range(4)]
        watch.begin()
        computes()
        computed = watch.end()
    assert [own.seconds for own in found[1:]] == pytest.approx([0.5] * 3, abs=0.15)
    assert all(0.6 * own.seconds < own.guessed_seconds <= own.seconds for own in found)
    assert computed is not None
    assert computed.guessed_seconds < 0.05


@needs_count
@pytest.mark.unit
def test_only_what_lies_between_begin_and_end_counts() -> None:
    watch = Busy("cpu")
    with watch:
        computes()
        watch.begin()
        assert _seconds(watch) < 0.1
        watch.begin()
        computes()
        assert 0.35 < _seconds(watch) < 0.6
    assert not any(thread.name == "axis-busy" for thread in threading.enumerate())


@needs_count
@pytest.mark.unit
def test_looking_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time of the thread that looks, of two seconds of work: 0.03 % where measured."""
    spent: list[float] = []
    look_on = Busy._look_on

    def measured(self: Busy) -> None:
        begun = time.thread_time()
        look_on(self)
        spent.append(time.thread_time() - begun)

    monkeypatch.setattr(Busy, "_look_on", measured)
    timed(lambda: [computes() for _ in range(5)])
    assert spent[0] < 0.005 * 2.0


@pytest.mark.unit
def test_where_nobody_counts_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, stores: Stores, new_run: NewRun
) -> None:
    with Busy("cuda") as accelerator:
        accelerator.begin()
        assert accelerator.end() is None
    monkeypatch.setattr(busy, "_open_counter", lambda: None)
    plan = plan_of(DIGITS, "training.workers=1", "training.steps=2")
    _, channel = run_here(plan, Digits(4), stores.digits, new_run())
    assert [work.busy_seconds for work in channel.works] == [None, None]


@pytest.mark.unit
def test_without_a_coordinator_every_worker_writes_what_its_steps_took(
    stores: Stores, new_run: NewRun
) -> None:
    plan, run = plan_of(DIGITS, "training.workers=1", "training.steps=3"), new_run()
    channel = LocalChannel(Storage.open(run), 1, 0)
    run_here(plan, Digits(4), stores.digits, run, channel=channel)
    lines = Path(run, "work/attempt-0001-rank-0000.jsonl").read_text().splitlines()
    assert [line[:11] for line in lines] == ['{"step": 1,', '{"step": 2,', '{"step": 3,']
