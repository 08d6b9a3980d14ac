from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import BatchShape, Plan, batch_shape, legal_workers, mesh_for
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sizes import fits, nearest_counts, nearest_ranges, why_not

pytestmark = pytest.mark.unit


def plan_of(workers: object, global_batch: int, micro: object = "auto", **model: int) -> Plan:
    return Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "corpus"}},
            "training": {"workers": workers, "global_batch": global_batch, "micro_batch": micro},
            "model": model,
        }
    )


plans = st.builds(
    lambda low, more, batch, micro, tensor, shard: plan_of(
        [low, low + more], batch, micro, tensor=tensor, shard=shard
    ),
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(1, 96),
    st.one_of(st.just("auto"), st.integers(1, 8)),
    st.integers(1, 3),
    st.integers(1, 3),
)


@given(plans)
def test_a_count_is_legal_exactly_where_nothing_speaks_against_it(plan: Plan) -> None:
    span = plan.training.workers
    legal = legal_workers(plan)
    assert legal == tuple(k for k in range(span.min, span.max + 1) if why_not(plan, k) is None)
    assert all(fits(plan, count) for count in legal)


@given(plans)
def test_the_global_batch_is_the_same_at_every_legal_count(plan: Plan) -> None:
    for workers in legal_workers(plan):
        shape = batch_shape(plan, workers)
        degree = mesh_for(plan, workers).batch_degree
        assert shape.micro_batch * shape.accumulation == shape.per_worker
        assert shape.per_worker * degree == plan.training.global_batch


@given(plans)
def test_auto_never_needs_more_memory_than_at_the_largest_count(plan: Plan) -> None:
    legal = legal_workers(plan)
    if not legal or plan.training.micro_batch != "auto":
        return
    largest = batch_shape(plan, legal[-1])
    assert largest.accumulation == 1
    assert all(batch_shape(plan, k).micro_batch <= largest.micro_batch for k in legal)


def as_fixed(plan: Plan, workers: int) -> Plan:
    values = plan.model_dump(mode="json")
    values["training"]["workers"] = workers
    return Plan.model_validate(values)


@given(plans)
def test_the_nearest_counts_are_legal_and_nothing_nearer_is(plan: Plan) -> None:
    start = plan.training.workers.max
    for count in nearest_counts(plan, start):
        assert legal_workers(as_fixed(plan, count)) == (count,)
        between = range(min(count, start) + 1, max(count, start))
        assert not any(legal_workers(as_fixed(plan, k)) for k in between)


@given(plans)
def test_a_range_made_wider_holds_a_legal_count_at_its_new_end(plan: Plan) -> None:
    span = plan.training.workers
    if not span.elastic:
        return
    for low, high in nearest_ranges(plan):
        assert low <= span.min
        assert high >= span.max
        new = [*range(low, span.min), *range(span.max + 1, high + 1)]
        assert [k for k in new if fits(plan, k)] == [low if low < span.min else high]


def test_accumulation_absorbs_the_difference() -> None:
    plan = plan_of([1, 4], 32)
    assert legal_workers(plan) == (1, 2, 4)
    assert batch_shape(plan, 4) == BatchShape(per_worker=8, micro_batch=8, accumulation=1)
    assert batch_shape(plan, 1) == BatchShape(per_worker=32, micro_batch=8, accumulation=4)


def test_auto_takes_a_divisor_where_shares_do_not_nest() -> None:
    plan = plan_of([2, 3], 6)
    assert legal_workers(plan) == (2, 3)
    assert batch_shape(plan, 3) == BatchShape(2, 2, 1)
    assert batch_shape(plan, 2) == BatchShape(3, 1, 3)


def test_tensor_ranks_share_their_samples() -> None:
    plan = plan_of(4, 32, tensor=2)
    assert batch_shape(plan, 4) == BatchShape(16, 16, 1)


def test_a_count_that_is_not_legal_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        batch_shape(plan_of(3, 32), 3)
    assert caught.value.arithmetic == "replicate 3 · shard 1 = 3, and 32 = 3·10 + 2"
    assert caught.value.works == "training.global_batch=30 or 33, or training.workers=2 or 4"


def test_more_workers_than_samples() -> None:
    with pytest.raises(Refusal) as caught:
        batch_shape(plan_of(8, 4), 8)
    assert caught.value.works == "training.global_batch=8, or training.workers=4"


def test_the_micro_batch_must_divide_the_share() -> None:
    refusal = why_not(plan_of(4, 32, 3), 4)
    assert refusal is not None
    assert refusal.arithmetic == ("global batch 32 / (replicate 4 · shard 1) = 8, and 8 = 3·2 + 2")
    assert refusal.works == "training.micro_batch=2, 4 or auto"


def test_a_huge_range_is_answered_at_once() -> None:
    start = time.perf_counter()
    assert legal_workers(plan_of([1, 100_000], 7)) == (1, 7)
    assert time.perf_counter() - start < 5
