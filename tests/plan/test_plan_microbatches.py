"""How the share of one batch rank is cut, with a pipeline and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import (
    BatchShape,
    Mesh,
    Plan,
    batch_shape,
    legal_workers,
    mesh_for,
    micro_batches,
)
from orchestrator.plan.microbatches import MICRO_BATCHES_PER_RANK, can_cut, idle_share
from orchestrator.plan.model import Model
from orchestrator.plan.pipelining import microbatch_problem
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sizes import why_not

pytestmark = pytest.mark.unit

SCHEDULES = ("gpipe", "1f1b", "interleaved-1f1b")


def plan_of(workers: object, batch: int, micro: object = "auto", **model: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "corpus"}},
            "training": {"workers": workers, "global_batch": batch, "micro_batch": micro},
            "model": model,
        }
    )


pipelines = st.builds(
    lambda low, more, batch, micro, pipeline, virtual, schedule: plan_of(
        [low, low + more],
        batch,
        micro,
        pipeline=pipeline,
        virtual_stages=virtual,
        pipeline_schedule=schedule,
    ),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 96),
    st.one_of(st.just("auto"), st.integers(1, 6)),
    st.integers(2, 4),
    st.integers(1, 3),
    st.sampled_from(SCHEDULES),
)
plans = pipelines | st.builds(
    lambda low, more, batch, micro: plan_of([low, low + more], batch, micro),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 96),
    st.one_of(st.just("auto"), st.integers(1, 6)),
)


@st.composite
def capped(draw: st.DrawFn) -> tuple[Plan, int, int]:
    """A plan, one of its legal counts, and a cap for its micro-batches."""
    plan = draw(plans.filter(lambda plan: bool(legal_workers(plan))))
    return plan, draw(st.sampled_from(legal_workers(plan))), draw(st.integers(1, 100))


def problem_with(plan: Plan, micro_batches: int) -> str | None:
    model = plan.model
    return microbatch_problem(
        model.pipeline_schedule, model.pipeline, model.virtual_stages, micro_batches
    )


@given(pipelines)
def test_the_schedule_can_run_what_every_legal_count_gives_it(plan: Plan) -> None:
    for workers in legal_workers(plan):
        shape = batch_shape(plan, workers)
        degree = mesh_for(plan, workers).batch_degree
        assert shape.micro_batch * shape.accumulation * degree == plan.training.global_batch
        assert problem_with(plan, shape.accumulation) is None


@given(pipelines)
def test_a_count_is_legal_exactly_where_nothing_speaks_against_it(plan: Plan) -> None:
    span = plan.training.workers
    legal = tuple(k for k in range(span.min, span.max + 1) if why_not(plan, k) is None)
    assert legal_workers(plan) == legal


@given(pipelines)
def test_auto_fills_the_pipeline_where_the_share_allows_it(plan: Plan) -> None:
    legal = legal_workers(plan)
    if not legal or plan.training.micro_batch != "auto":
        return
    shape = batch_shape(plan, legal[-1])
    aim = MICRO_BATCHES_PER_RANK * plan.model.pipeline
    suitable = [
        a
        for a in range(1, shape.per_worker + 1)
        if shape.per_worker % a == 0 and problem_with(plan, a) is None
    ]
    enough = [a for a in suitable if a >= aim]
    assert shape.accumulation == (enough[0] if enough else suitable[-1])
    assert shape.accumulation <= shape.per_worker


@given(pipelines)
def test_auto_takes_no_more_memory_at_fewer_workers_if_the_schedule_lets_it(plan: Plan) -> None:
    legal = legal_workers(plan)
    if not legal or plan.training.micro_batch != "auto":
        return
    most = batch_shape(plan, legal[-1]).micro_batch
    for workers in legal:
        shape = batch_shape(plan, workers)
        smaller = [
            m
            for m in range(1, min(most, shape.micro_batch) + 1)
            if shape.per_worker % m == 0 and problem_with(plan, shape.per_worker // m) is None
        ]
        assert shape.micro_batch <= most or smaller == []


@given(pipelines)
def test_every_way_out_of_a_problem_with_micro_batches_is_one(plan: Plan) -> None:
    span = plan.training.workers
    for workers in range(span.min, span.max + 1):
        refusal = why_not(plan, workers)
        if refusal is None or "micro-batch" not in refusal.what:
            continue
        assert refusal.works
        for way in refusal.works.split(", or "):
            path, _, values = way.partition("=")
            for value in values.replace(" or ", ", ").split(", "):
                assert why_not(changed(plan, path, value), workers) is None, (way, refusal)


def changed(plan: Plan, path: str, value: str) -> Plan:
    values = plan.model_dump(mode="json")
    section, _, name = path.partition(".")
    values[section][name] = int(value) if value.isdigit() else value
    return Plan.model_validate(values)


@pytest.mark.parametrize(
    ("schedule", "batch", "shape"),
    [
        ("1f1b", 32, BatchShape(32, 8, 4)),  # 4 = twice the ranks
        ("1f1b", 2, BatchShape(2, 1, 2)),  # too few samples for that: as many as there are
        ("1f1b", 3, BatchShape(3, 1, 3)),
        ("gpipe", 1, BatchShape(1, 1, 1)),
        ("interleaved-1f1b", 9, BatchShape(9, 3, 3)),  # 9 would be 4 rounds that do not divide it
        ("interleaved-1f1b", 12, BatchShape(12, 3, 4)),
    ],
)
def test_auto_with_two_ranks(schedule: str, batch: int, shape: BatchShape) -> None:
    plan = plan_of(2, batch, pipeline=2, pipeline_schedule=schedule)
    assert batch_shape(plan, 2) == shape


def test_a_share_that_is_too_small_for_the_schedule() -> None:
    refusal = why_not(plan_of(8, 4, pipeline=4), 8)
    assert refusal is not None
    assert refusal.arithmetic.startswith("global batch 4 / (replicate 2 · shard 1) = 2; ")
    assert "2 for 4 stages" in refusal.arithmetic
    assert refusal.works == "training.global_batch=8, or model.pipeline_schedule=gpipe"


def test_a_micro_batch_that_leaves_too_few() -> None:
    refusal = why_not(plan_of(4, 16, 8, pipeline=4), 4)
    assert refusal is not None
    assert "16 / micro_batch 8 = 2 micro-batches" in refusal.arithmetic
    assert refusal.works == "training.micro_batch=4 or auto, or model.pipeline_schedule=gpipe"


def test_a_micro_batch_that_does_not_divide_is_told_sizes_that_suit_the_pipeline() -> None:
    refusal = why_not(plan_of(4, 16, 3, pipeline=4), 4)
    assert refusal is not None
    assert refusal.works == "training.micro_batch=2, 4 or auto"
    one = why_not(plan_of(4, 16, 5, pipeline=4), 4)
    assert one is not None
    assert one.works == "training.micro_batch=4 or auto"  # 8 divides, but leaves two


@pytest.mark.parametrize(
    ("schedule", "micro_batches", "share"),
    [("1f1b", 4, 0.2), ("gpipe", 4, 0.2), ("interleaved-1f1b", 4, 1 / 9)],
)
def test_the_time_that_a_rank_waits(schedule: str, micro_batches: int, share: float) -> None:
    model = Model(pipeline=2, pipeline_schedule=schedule)  # type: ignore[arg-type]
    assert idle_share(model, Mesh(pipeline=2), micro_batches) == pytest.approx(share)


def test_without_a_pipeline_any_share_can_be_cut() -> None:
    assert can_cut(Model(), Mesh(), 1)


@given(capped())
def test_a_cap_leaves_the_global_batch_and_is_kept(case: tuple[Plan, int, int]) -> None:
    plan, workers, cap = case
    sizes = micro_batches(plan, workers)
    whole = batch_shape(plan, workers)
    assert sizes[0] == whole.micro_batch
    assert sorted(set(sizes), reverse=True) == list(sizes)
    allowed = [size for size in sizes if size <= cap]
    if not allowed:
        with pytest.raises(Refusal, match=f"as small as {cap}"):
            batch_shape(plan, workers, cap)
        return
    shape = batch_shape(plan, workers, cap)
    assert shape.micro_batch == allowed[0]
    assert shape.micro_batch * shape.accumulation == shape.per_worker == whole.per_worker


@given(capped())
def test_no_legal_size_is_left_out(case: tuple[Plan, int, int]) -> None:
    plan, workers, _ = case
    whole = batch_shape(plan, workers)
    legal = [
        size
        for size in range(whole.micro_batch, 0, -1)
        if whole.per_worker % size == 0 and problem_with(plan, whole.per_worker // size) is None
    ]
    assert list(micro_batches(plan, workers)) == legal


def test_smaller_micro_batches_by_hand() -> None:
    assert micro_batches(plan_of([1, 4], 24), 2) == (6, 4, 3, 2, 1)
    assert batch_shape(plan_of([1, 4], 24), 2, 5) == BatchShape(12, 4, 3)
    assert micro_batches(plan_of(4, 24, 3), 4) == (3, 2, 1)
    rounds = plan_of(2, 15, pipeline=2, pipeline_schedule="interleaved-1f1b")
    assert micro_batches(rounds, 2) == (5,)
    with pytest.raises(Refusal) as caught:
        batch_shape(rounds, 2, 3)
    assert caught.value.works == "a cap of 5"
    with pytest.raises(Refusal, match="cannot be shared evenly"):
        micro_batches(plan_of(3, 32), 3)
