"""The mesh of an elastic plan at every number of workers: what keeps its degree, what gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import Mesh, Plan, batch_shape, legal_workers, mesh_for, resolve_mesh
from orchestrator.plan.elastic import divisors, elastic_mesh, kept_size, largest_divisor
from orchestrator.plan.mesh_choice import choose_mesh, keeps_groups_whole
from orchestrator.plan.model import Model
from orchestrator.plan.refusal import Refusal

pytestmark = pytest.mark.unit


def plan_of(workers: object, global_batch: int = 32, **model: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "corpus"}},
            "training": {"workers": workers, "global_batch": global_batch},
            "model": model,
        }
    )


degree = st.integers(1, 4)
kept = st.fixed_dictionaries(
    {
        "tensor": st.integers(1, 3),
        "pipeline": st.integers(1, 2),
        "context": st.integers(1, 2),
        "expert": st.sampled_from([1, 1, 2, 3]),
    }
)
spreads = {
    "fixed": st.tuples(degree, degree),
    "copies": st.tuples(st.just(-1), degree),
    "shards": st.tuples(degree, st.just(-1)),
}


def model_of(spread: tuple[int, int], others: dict[str, int]) -> Model:
    return Model(replicate=spread[0], shard=spread[1], **others)


def models_of(*kinds: str) -> st.SearchStrategy[Model]:
    return st.builds(model_of, st.one_of([spreads[kind] for kind in kinds]), kept)


models = models_of("fixed", "copies", "shards")


def elastic_or_none(model: Model, workers: int) -> Mesh | None:
    try:
        return elastic_mesh(model, workers)
    except Refusal:
        return None


@given(models, st.integers(1, 48))
def test_the_mesh_fills_the_workers_and_keeps_what_cuts_the_model(
    model: Model, workers: int
) -> None:
    mesh = elastic_or_none(model, workers)
    if mesh is None:
        left, remainder = divmod(workers, kept_size(model))
        assert remainder or (left * model.context) % model.expert
        return
    assert mesh.size == workers
    kept = ("tensor", "pipeline", "context", "expert")
    assert [getattr(mesh, name) for name in kept] == [getattr(model, name) for name in kept]
    assert elastic_mesh(model, workers) == mesh


@given(models, st.integers(1, 48))
def test_degrees_that_fill_the_workers_are_taken_as_they_are(model: Model, workers: int) -> None:
    try:
        exact = resolve_mesh(model, workers)
    except Refusal:
        return
    assert elastic_mesh(model, workers) == exact


@given(models_of("fixed", "copies"), st.integers(1, 48))
def test_replicate_takes_the_change_before_shard(model: Model, workers: int) -> None:
    mesh = elastic_or_none(model, workers)
    if mesh is None:
        return
    assert mesh.shard <= model.shard
    left = mesh.replicate * mesh.shard
    # shard gives way only where no replicate could have taken the whole change
    assert (mesh.shard == model.shard) == (left % model.shard == 0)
    assert not any(left % d == 0 for d in range(mesh.shard + 1, model.shard + 1))


@given(models_of("shards"), st.integers(1, 48))
def test_a_shard_that_takes_the_rest_leaves_replicate_as_much_as_it_can(
    model: Model, workers: int
) -> None:
    mesh = elastic_or_none(model, workers)
    if mesh is None:
        return
    assert mesh.replicate <= model.replicate
    left = mesh.replicate * mesh.shard
    assert not any(left % d == 0 for d in range(mesh.replicate + 1, model.replicate + 1))


@given(models, st.integers(1, 48))
def test_a_refusal_says_what_would_do(model: Model, workers: int) -> None:
    refusal = why_not(model, workers)
    if refusal is None:
        return
    assert f"= {kept_size(model)}" in refusal.arithmetic or "expert" in refusal.what
    for way in refusal.works.split(", or "):
        path, _, value = way.partition("=")
        if path.startswith("model."):
            changed = {**model.model_dump(), path.removeprefix("model."): int(value)}
            # where the mesh now holds whole copies, experts are the next question
            assert elastic_or_none(Model(**changed), workers) is not None or model.expert > 1


def why_not(model: Model, workers: int) -> Refusal | None:
    try:
        elastic_mesh(model, workers)
    except Refusal as refusal:
        return refusal
    return None


def test_a_fixed_plan_is_never_bent() -> None:
    with pytest.raises(Refusal, match="the mesh holds 8 workers, not 4"):
        mesh_for(plan_of(4, replicate=2, shard=4), 4)
    assert mesh_for(plan_of([2, 8], replicate=2, shard=4), 4) == Mesh(shard=4)


def test_a_dimension_that_takes_the_rest_has_no_other_mesh() -> None:
    plan = plan_of([2, 6], 36, replicate=2, tensor=-1)
    assert legal_workers(plan) == (2, 4, 6)
    assert mesh_for(plan, 6) == Mesh(replicate=2, tensor=3)


def test_every_count_that_holds_whole_copies_and_shares_the_batch_is_legal() -> None:
    plan = plan_of([1, 8], 24, replicate=2, shard=2, tensor=2)
    assert legal_workers(plan) == (2, 4, 6, 8)
    assert [str(mesh_for(plan, k)) for k in (2, 4, 6, 8)] == [
        "tensor 2",
        "shard 2 · tensor 2",
        "replicate 3 · tensor 2",
        "replicate 2 · shard 2 · tensor 2",
    ]


@given(st.integers(1, 5000))
def test_divisors(number: int) -> None:
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]
    assert largest_divisor(number, 7) == max(d for d in divisors(number) if d <= 7)


nodes = st.lists(st.integers(0, 8), max_size=5)
plans = st.builds(
    lambda low, more, batch, replicate, shard, tensor, pipeline: plan_of(
        [low, low + more], batch, replicate=replicate, shard=shard, tensor=tensor, pipeline=pipeline
    ),
    st.integers(1, 6),
    st.integers(1, 14),
    st.sampled_from([8, 12, 24, 32, 48, 60]),
    st.sampled_from([-1, 1, 2, 4]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)


@given(plans, nodes)
def test_the_choice_is_the_largest_legal_count_whose_groups_stay_whole(
    plan: Plan, slots: list[int]
) -> None:
    legal = legal_workers(plan)
    held = [count for count in legal if count <= sum(slots)]
    if not held:
        with pytest.raises(Refusal):
            choose_mesh(plan, slots)
        return
    choice = choose_mesh(plan, slots)
    assert choice.mesh == mesh_for(plan, choice.workers)
    assert choice.mesh.size == choice.workers
    assert choice.workers in held
    whole = [count for count in held if keeps_groups_whole(mesh_for(plan, count), slots)]
    assert choice.workers == max(whole or held)
    shape = batch_shape(plan, choice.workers)
    cut = (choice.mesh.batch_degree, shape.micro_batch, shape.accumulation)
    assert cut[0] * cut[1] * cut[2] == plan.training.global_batch
    assert choose_mesh(plan, slots) == choice
    assert choose_mesh(plan, list(reversed(slots))).workers == choice.workers


def test_the_reason_names_the_change_and_how_the_batch_is_kept() -> None:
    plan = plan_of([1, 8], replicate=2, shard=4)
    assert choose_mesh(plan, [4, 4]).reason == (
        "8 workers: replicate 2 · shard 4; a batch of 32 = 8 × 4 samples, in 1 pass of 4"
    )
    assert choose_mesh(plan, [4]).reason == (
        "8 → 4 workers: replicate 2 → 1, shard 4 kept; "
        "the batch stays 32 = 4 × 8 samples, by 1 → 2 passes of 4"
    )
    assert choose_mesh(plan, [4, 4], before=4).reason.startswith(
        "4 → 8 workers: replicate 1 → 2, shard 4 kept; "
    )


def test_the_workers_before_may_have_had_no_mesh_of_this_plan() -> None:
    reason = choose_mesh(plan_of(2, tensor=2), [2], before=3).reason
    assert reason.startswith("3 → 2 workers: tensor 2; the batch stays 32 = 1 × 32 samples")


def test_groups_stay_inside_nodes_even_if_fewer_workers_then_train() -> None:
    plan = plan_of([4, 8], tensor=2, pipeline=2)
    choice = choose_mesh(plan, [6, 2])
    assert choice.workers == 4
    assert choice.reason.endswith(
        "every tensor·pipeline group of 4 has room inside one node; "
        "8 workers would fit, but only with groups across nodes"
    )


def test_groups_that_fit_no_node_say_what_that_costs() -> None:
    plan = plan_of([4, 8], tensor=2, pipeline=2)
    (odd, even) = (choose_mesh(plan, slots).reason for slots in ([3, 3, 2], [2, 2]))
    assert "2 of 2 tensor·pipeline groups of 4 reach across nodes, which hold 3, 3, 2" in odd
    assert odd.endswith("so each layer of each pass waits for it")
    assert even.endswith("the activations of each micro-batch cross the network between stages, "
                         "forward and back")  # fmt: skip


def test_no_room_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(Refusal) as caught:
        choose_mesh(plan_of([4, 8], tensor=2, pipeline=2), [2, 1])
    assert "its smallest is tensor 2 · pipeline 2, on 4 workers" in caught.value.what
    assert caught.value.arithmetic == (
        "nodes have room for 2 + 1 = 3 workers; 1 is missing; legal are 4, 8"
    )
    with pytest.raises(Refusal, match="no number of workers suits a"):
        choose_mesh(plan_of([3, 3], 32), [8])
