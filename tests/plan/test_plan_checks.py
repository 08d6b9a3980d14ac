from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PlanError, Problem
from orchestrator.plan import Plan, check_plan, parse_plan

pytestmark = pytest.mark.unit

Find = Callable[..., dict[str, Problem]]
Make = Callable[..., Plan]


def test_a_sound_plan_has_no_problem(make_plan: Make) -> None:
    assert check_plan(make_plan()) == ()


def test_an_elastic_range_needs_one_size_that_works(find_problems: Find, make_plan: Make) -> None:
    (problem,) = find_problems("training.workers=[5,7]").values()
    assert problem.what == "no number of workers from 5 to 7 fits the mesh and the batch"
    assert problem.arithmetic.startswith("5: replicate 1 · shard 5 = 5, and 32 = 5·6 + 2; 6: ")
    assert problem.works == "training.workers=[4, 7] or [5, 8]"
    assert make_plan("training.workers=[3,5]").training.workers.elastic


def test_a_long_range_shows_a_few_reasons(find_problems: Find) -> None:
    (problem,) = find_problems("training.workers=[33,90]").values()
    assert problem.arithmetic.startswith("33: replicate 1 · shard 33 = 33, and 32 = 33·0 + 32; 34")
    assert "; …; 90: replicate 1 · shard 90" in problem.arithmetic
    assert problem.works == "training.workers=[32, 90]"


def test_a_range_without_a_multiple_of_the_fixed_degrees(find_problems: Find) -> None:
    (problem,) = find_problems("training.workers=[5,7]", "model.tensor=8").values()
    assert problem.what == "no number of workers from 5 to 7 fills the mesh"
    assert problem.works == "training.workers=[5, 8]"


def test_the_mesh_is_checked_where_the_batch_is_unknown(find_problems: Find) -> None:
    found = find_problems("training.workers=3", "model.tensor=2", "training.global_batch=many")
    assert set(found) == {"training.workers", "training.global_batch"}


def test_two_rests_are_said_once(find_problems: Find) -> None:
    (problem,) = find_problems("model.tensor=-1").values()
    assert problem.where == "model.shard"
    assert problem.works == "model.shard=1, or model.tensor=1"


def test_an_explicit_micro_batch(find_problems: Find, make_plan: Make) -> None:
    (problem,) = find_problems("training.workers=4", "training.micro_batch=3").values()
    assert problem.where == "training.micro_batch"
    assert problem.works == "training.micro_batch=2, 4 or auto"
    assert make_plan("training.workers=4", "training.micro_batch=4")


@pytest.mark.parametrize(
    ("overrides", "where", "works"),
    [
        (["inference.promote.metric=loss"], "inference.promote.metric", "val_loss"),
        (["inference.promote.metric=val_f1"], None, None),
        (["inference.promote.when.metric=accuracy"], "inference.promote.when.metric",
         "val_accuracy"),
        (["inference.promote.when={metric: val_loss}"], "inference.promote.when",
         "inference.promote.when.below=… or inference.promote.when.above=…"),
        (["inference.promote.when={metric: val_f1, above: 2, below: 1}"], "inference.promote.when",
         "only one of the two, or above < below"),
        (["inference.promote.when={metric: val_f1, above: 1, below: 2}"], None, None),
        (["inference.promote.mode=max"], "inference.promote.mode", "inference.promote.mode=min"),
        (["inference.promote={metric: val_accuracy, when: {metric: val_accuracy, above: 0.9}}"],
         "inference.promote.mode", "inference.promote.mode=max"),
        (["inference.promote={metric: val_loss, when: {metric: val_accuracy, above: 0.9}}"],
         None, None),
        (["training.evaluate.samples=0"], "training.evaluate.samples",
         "training.evaluate.samples=512, or without inference"),
        (["data.holdout=0"], "data.holdout", "data.holdout=0.05, or without inference"),
        (["data.holdout=0", "training.evaluate.samples=0", "inference=null"], None, None),
        (["data.source.path=python:site"], "data.source.path", "python:stdlib"),
        (["data.source={kind: csv, path: 'python:stdlib'}"], "data.source.path",
         "kind: text with path: python:stdlib"),
        (["options.n-layers=3"], "options.n-layers", "n_layers"),
        (["data.source={kind: python, target: 'm:rows', arguments: {a b: 3}}"],
         "data.source.arguments.a b", "a_b"),
        (["training.resources={cpu: 0}"], "training.resources", "training.resources.cpu=0.5"),
        (["training.resources.gpu=1.5"], "training.resources.gpu", "1 or 2"),
        (["training.resources.gpu=0.5"], None, None),
        (["data.resources.custom={GPU: 1}"], "data.resources.custom.GPU", "data.resources.gpu"),
        (["data.resources={cpu: 0, custom: {disk: 1}}"], None, None),
        (["inference.max_ongoing_requests=4"], "inference.max_ongoing_requests",
         "inference.max_ongoing_requests=8 or more, or inference.max_batch_size=4 or less"),
        (["training.schedule.warmup=500"], None, None),
        (["coordination.checkpoint.every=500"], None, None),
        (["data.shards=1", "data.tasks=4"], None, None),
    ],
)  # fmt: skip
def test_across_the_axes(
    find_problems: Find,
    make_plan: Make,
    overrides: list[str],
    where: str | None,
    works: str | None,
) -> None:
    if where is None:
        assert check_plan(make_plan(*overrides)) == ()
        return
    found = find_problems(*overrides)
    assert list(found) == [where]
    assert found[where].works == works


def test_several_axes_at_once(find_problems: Find) -> None:
    found = find_problems(
        "training.workers=3", "inference.promote.metric=loss", "inference.max_ongoing_requests=1"
    )
    assert set(found) == {
        "training.global_batch",
        "inference.promote.metric",
        "inference.max_ongoing_requests",
    }


def test_doubtful_fields_silence_only_what_reads_them(make_plan: Make) -> None:
    plan = make_plan().model_copy(update={"options": {"a-b": 1}})
    assert [problem.where for problem in check_plan(plan)] == ["options.a-b"]
    assert check_plan(plan, {"options.layers"}) == ()
    assert check_plan(plan, {"training"}) != ()


@given(
    workers=st.integers(1, 24), batch=st.integers(1, 64), tensor=st.integers(1, 4), data=st.data()
)
def test_every_way_out_of_a_size_problem_is_one(
    workers: int, batch: int, tensor: int, data: st.DataObject
) -> None:
    text = "name: a\njob: a:B\ndata: {source: {kind: text, path: corpus}}\n"
    overrides = [
        f"training.workers={workers}",
        f"training.global_batch={batch}",
        f"model.tensor={tensor}",
    ]
    first = first_problem(text, overrides)
    if first is None:
        return
    ways = [
        f"{way.partition('=')[0]}={value}"
        for way in first.works.split(", or ")
        for value in way.partition("=")[2].replace(" or ", ", ").split(", ")
    ]
    way = data.draw(st.sampled_from(ways))
    second = first_problem(text, [*overrides, way])
    if second is not None:
        # A mesh that now fills the workers may still have to share the batch.
        assert "mesh" in first.what
        assert "global batch" in second.what


def first_problem(text: str, overrides: list[str]) -> Problem | None:
    try:
        parse_plan(text, overrides)
    except PlanError as error:
        return error.problems[0]
    return None
