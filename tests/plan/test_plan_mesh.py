from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import Mesh, batch_rank_of, coordinate_of, rank_of, resolve_mesh
from orchestrator.plan.mesh import DIMENSIONS
from orchestrator.plan.model import Model
from orchestrator.plan.refusal import Refusal

pytestmark = pytest.mark.unit

degrees = st.integers(min_value=1, max_value=4)
meshes = st.builds(
    Mesh, replicate=degrees, shard=degrees, tensor=degrees, pipeline=degrees, context=degrees
)


@given(meshes)
def test_ranks_and_coordinates_are_inverse_bijections(mesh: Mesh) -> None:
    coordinates = [coordinate_of(mesh, rank) for rank in range(mesh.size)]
    assert [rank_of(mesh, coordinate) for coordinate in coordinates] == list(range(mesh.size))
    assert len({tuple(c.values()) for c in coordinates}) == mesh.size
    assert all(list(c) == list(DIMENSIONS) for c in coordinates)
    assert all(0 <= c[name] < getattr(mesh, name) for c in coordinates for name in DIMENSIONS)


@given(meshes)
def test_tensor_neighbours_are_adjacent_and_stages_far_apart(mesh: Mesh) -> None:
    zero = dict.fromkeys(DIMENSIONS, 0)
    if mesh.tensor > 1:
        assert rank_of(mesh, {**zero, "tensor": 1}) == 1
    if mesh.pipeline > 1:
        assert rank_of(mesh, {**zero, "pipeline": 1}) == mesh.size // mesh.pipeline


@given(meshes)
def test_each_batch_rank_is_held_by_as_many_ranks(mesh: Mesh) -> None:
    held = [batch_rank_of(mesh, rank) for rank in range(mesh.size)]
    assert set(held) == set(range(mesh.batch_degree))
    assert all(held.count(b) == mesh.size // mesh.batch_degree for b in set(held))


@given(st.sampled_from(DIMENSIONS), degrees, degrees, degrees, degrees, degrees)
def test_the_rest_fills_the_workers(
    rest: str, first: int, second: int, third: int, fourth: int, left: int
) -> None:
    others = [name for name in DIMENSIONS if name != rest]
    fixed = dict(zip(others, (first, second, third, fourth), strict=True))
    workers = math.prod(fixed.values()) * left
    mesh = resolve_mesh(Model(**{**fixed, rest: -1}), workers)
    assert mesh.size == workers
    assert getattr(mesh, rest) == left


@given(st.sampled_from([*DIMENSIONS, None]), degrees, degrees, degrees, st.integers(1, 40), degrees)
def test_every_change_that_a_refusal_proposes_works(
    rest: str | None, replicate: int, tensor: int, pipeline: int, workers: int, expert: int
) -> None:
    asked = {"replicate": replicate, "tensor": tensor, "pipeline": pipeline, "expert": expert}
    if rest is not None:
        asked[rest] = -1
    model = Model(**asked)
    refusal = refusal_of(model, workers)
    if refusal is None:
        assert resolve_mesh(model, workers).size == workers
        return
    assert refusal.arithmetic
    for proposal in refusal.works.split(", or "):
        path, _, numbers = proposal.partition("=")
        for number in numbers.split(" or "):
            assert_fills(model, workers, path, int(number))


def assert_fills(model: Model, workers: int, path: str, number: int) -> None:
    if path == "training.workers":
        workers = number
    else:
        model = Model(**{**model.model_dump(), path.removeprefix("model."): number})
    refusal = refusal_of(model, workers)
    # The mesh now fills the workers; experts are the next question, with its own answer.
    assert refusal is None or "model.expert" in refusal.what


def refusal_of(model: Model, workers: int) -> Refusal | None:
    try:
        resolve_mesh(model, workers)
    except Refusal as refusal:
        return refusal
    return None


def test_the_refusal_prints_every_factor() -> None:
    with pytest.raises(ValueError, match="does not divide") as caught:
        resolve_mesh(Model(tensor=2), 3)
    assert str(caught.value) == (
        "the mesh does not fill 3 workers evenly: "
        "shard 1 · tensor 2 · pipeline 1 · context 1 = 2 does not divide 3 workers "
        "(3 = 2·1 + 1); works: training.workers=2 or 4, or model.tensor=1"
    )


def test_a_fixed_mesh_must_be_as_large_as_the_workers() -> None:
    with pytest.raises(Refusal) as caught:
        resolve_mesh(Model(replicate=3), 4)
    assert caught.value.works == "training.workers=3, or model.replicate=4"
    assert "replicate 3 · shard 1" in caught.value.arithmetic


def test_too_few_workers_for_the_fixed_degrees() -> None:
    with pytest.raises(Refusal) as caught:
        resolve_mesh(Model(tensor=4), 2)
    assert caught.value.works == "training.workers=4, or model.tensor=2"


def test_one_rest_only() -> None:
    with pytest.raises(Refusal, match=r"model\.replicate and model\.shard are -1"):
        resolve_mesh(Model(replicate=-1, shard=-1), 4)


def test_another_rest_replaces_the_default_of_replicate() -> None:
    assert resolve_mesh(Model(shard=-1), 4) == Mesh(shard=4)
    assert resolve_mesh(Model(shard=2), 4) == Mesh(replicate=2, shard=2)


def test_experts_reuse_ranks_that_they_must_divide() -> None:
    assert resolve_mesh(Model(expert=2), 4).size == 4
    with pytest.raises(Refusal) as caught:
        resolve_mesh(Model(expert=3), 4)
    assert caught.value.arithmetic == ("replicate 4 · shard 1 · context 1 = 4, and 4 = 3·1 + 1")
    assert caught.value.works == "model.expert=2, or model.expert=4"


@pytest.mark.parametrize(
    ("coordinate", "message"),
    [
        ({"tensor": 0}, "a coordinate names"),
        ({**dict.fromkeys(DIMENSIONS, 0), "tensor": 2}, "outside 0..1"),
        ({**dict.fromkeys(DIMENSIONS, 0), "shard": -1}, "outside 0..0"),
    ],
)
def test_coordinates_outside_the_mesh(coordinate: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_of(Mesh(tensor=2), coordinate)


@pytest.mark.parametrize("rank", [-1, 2])
def test_ranks_outside_the_mesh(rank: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        coordinate_of(Mesh(tensor=2), rank)


def test_degrees_below_one_are_no_mesh() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Mesh(shard=0)
