"""What a Job says about cutting its model, against the mesh of the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Job, Split
from orchestrator.plan import Plan, legal_workers, mesh_for
from orchestrator.plan.split_checks import check_split, needs_split, tells_loss_in_parts

pytestmark = pytest.mark.unit

SPLIT = Split(
    blocks="layers",
    num_blocks=6,
    first=("embed",),
    last=("head",),
    tensor={"layers.*.q": "colwise"},
    experts="layers.*.experts",
    sequence={"tokens": 1},
    divisible={
        "tensor": {"heads": 12, "kv_heads": 4, "length": 48},
        "context": {"length": 48},
        "expert": {"experts": 8},
    },
)


def plan_of(workers: object, batch: int = 240, **model: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "corpus"}},
            "training": {"workers": workers, "global_batch": batch},
            "model": model,
        }
    )


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"shard": 4},
        {"tensor": 4},
        {"tensor": 2, "context": 2},
        {"pipeline": 4},
        {"pipeline": 2, "pipeline_schedule": "interleaved-1f1b", "virtual_stages": 3},
        {"context": 4},
        {"expert": 4},
        {"tensor": 2, "pipeline": 2, "activation_checkpoint": "selective"},
    ],
)
def test_a_model_that_can_be_cut_like_that(model: dict[str, object]) -> None:
    assert check_split(plan_of(4, **model), SPLIT) == ()


@pytest.mark.parametrize(
    ("workers", "model", "where", "arithmetic", "works"),
    [
        (6, {"tensor": 6}, "tensor", "kv_heads 4 = 6·0 + 4", "model.tensor=2"),
        (8, {"tensor": 8}, "tensor", "heads 12 = 8·1 + 4; kv_heads 4 = 8·0 + 4", "model.tensor=4"),
        (
            8,
            {"pipeline": 8},
            "pipeline",
            "pipeline 8 = 8 stages, and layers has 6 blocks",
            "model.pipeline=4",
        ),
        (
            4,
            {"pipeline": 4, "pipeline_schedule": "interleaved-1f1b"},
            "pipeline",
            "pipeline 4 · virtual_stages 2 = 8 stages, and layers has 6 blocks",
            "model.pipeline_schedule=1f1b, or model.pipeline=2",
        ),
        (
            5,
            {"context": 5},
            "context",
            "2 · context 5 = 10, and length 48 = 10·4 + 8",
            "model.context=4 training.workers=4, or model.context=6 training.workers=6",
        ),
        (
            12,
            {"tensor": 4, "context": 3, "shard": 1},
            None,
            "",
            "",
        ),
        (
            32,
            {"tensor": 4, "context": 8},
            "tensor",
            "tensor 4 · context 8 = 32, and length 48 = 32·1 + 16",
            "model.tensor=2",
        ),
        (6, {"expert": 6}, "expert", "experts 8 = 6·1 + 2", "model.expert=2"),
    ],
)
def test_sizes_that_do_not_divide(
    workers: int, model: dict[str, object], where: str | None, arithmetic: str, works: str
) -> None:
    problems = check_split(plan_of(workers, **model), SPLIT)
    if where is None:
        assert problems == ()
        return
    (problem,) = problems
    assert problem.where == f"model.{where}"
    assert problem.arithmetic == arithmetic
    assert problem.works.startswith(works)


@pytest.mark.parametrize("dimension", ["tensor", "pipeline", "context", "expert"])
def test_what_a_job_leaves_out_cannot_be_cut(dimension: str) -> None:
    plan = plan_of(4, **{dimension: 2})
    missing = {"tensor": {"tensor": {}}, "pipeline": {"num_blocks": 0},
               "context": {"sequence": {}}, "expert": {"experts": ""}}[dimension]  # fmt: skip
    for split in (None, replace(SPLIT, **missing)):
        (problem,) = check_split(plan, split)
        assert problem.where == f"model.{dimension}"
        assert problem.what.startswith("a:B says nothing about ")
        assert problem.works.startswith(f"model.{dimension}=1, or a split() of the Job with ")


@pytest.mark.parametrize(("dimension", "refused"), [("pipeline", 1), ("context", 1), ("tensor", 0)])
def test_a_loss_in_one_piece_cannot_be_taken_apart(dimension: str, refused: int) -> None:
    problems = check_split(plan_of(4, **{dimension: 2}), SPLIT, in_parts=False)
    assert len(problems) == refused
    assert all("both arguments and criterion" in problem.what for problem in problems)


def test_blocks_that_nobody_named_cannot_be_recomputed() -> None:
    plan = plan_of(4, activation_checkpoint="full")
    assert needs_split(plan)
    assert check_split(plan, SPLIT) == ()
    (problem,) = check_split(plan, None)
    assert problem.where == "model.activation_checkpoint"


def test_a_degree_that_takes_the_rest_is_checked_at_every_count() -> None:
    (problem,) = check_split(plan_of([2, 6], tensor=-1, replicate=1), SPLIT)
    assert problem.where == "model.tensor"
    assert "tensor 3" in problem.what


def test_a_sequence_that_context_does_not_divide_is_no_matter_of_tensor() -> None:
    (problem,) = check_split(plan_of(10, tensor=2, context=5), SPLIT)
    assert problem.where == "model.context"


def test_all_dimensions_are_told_at_once() -> None:
    problems = check_split(plan_of(30, tensor=5, pipeline=3, context=2), None, in_parts=False)
    assert [p.where for p in problems] == ["model.tensor", "model.pipeline", "model.context"]


class InParts(Job):
    def arguments(self, prepared):  # type: ignore[no-untyped-def]
        return (), {}

    def criterion(self, outputs, prepared):  # type: ignore[no-untyped-def]
        return outputs


class InOne(Job):
    def loss(self, model, batch):  # type: ignore[no-untyped-def]
        return model(batch)


def test_a_job_that_tells_its_loss_in_parts() -> None:
    assert tells_loss_in_parts(InParts)
    assert not tells_loss_in_parts(InOne)


@given(
    st.integers(1, 24),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 4]),
    st.data(),
)
def test_every_way_out_is_one(
    workers: int, tensor: int, pipeline: int, context: int, expert: int, data: st.DataObject
) -> None:
    plan = plan_of(workers, tensor=tensor, pipeline=pipeline, context=context, expert=expert)
    problems = check_split(plan, SPLIT)
    if not problems:
        for count in legal_workers(plan):
            mesh = mesh_for(plan, count)
            assert 48 % (mesh.tensor * mesh.context) == 0
            assert mesh.context == 1 or 48 % (2 * mesh.context) == 0
            assert mesh.pipeline <= 6
        return
    problem = data.draw(st.sampled_from(problems))
    if not problem.works:
        return
    way = data.draw(st.sampled_from(problem.works.split(", or ")))
    values = plan.model_dump(mode="json")
    for setting in way.split(" "):
        path, _, value = setting.partition("=")
        section, _, name = path.partition(".")
        values[section][name] = int(value) if value.isdigit() else value
    again = Plan.model_validate(values)
    assert legal_workers(again)
    left = check_split(again, SPLIT)
    assert problem.where not in [each.where for each in left]


def test_a_mesh_that_does_not_fill_the_workers_has_no_degrees_to_check() -> None:
    assert check_split(plan_of(4, tensor=3), SPLIT) == ()
