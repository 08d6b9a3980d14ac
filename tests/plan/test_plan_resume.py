from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.plan import Plan, resume_changes
from orchestrator.plan.fields import field_notes
from orchestrator.plan.resume import COMPUTED, FREE

pytestmark = pytest.mark.unit

Make = Callable[..., Plan]


def test_an_unchanged_plan_resumes(make_plan: Make) -> None:
    verdict = resume_changes(make_plan(), make_plan())
    assert verdict.problems == ()
    assert verdict.notes == ()


@pytest.mark.parametrize(
    ("override", "where", "arithmetic"),
    [
        ("seed=1", "seed", "0 → 1"),
        ("job=jobs.gpt:Other", "job", '"jobs.gpt:GPT" → "jobs.gpt:Other"'),
        ("options.layers=2", "options.layers", "not set → 2"),
        ("training.global_batch=64", "training.global_batch", "32 → 64"),
        ("training.optimizer.lr=1", "training.optimizer.lr", "0.0003 → 1.0"),
        ("training.optimizer.betas=[0.1, 0.2]", "training.optimizer.betas",
         "[0.9, 0.95] → [0.1, 0.2]"),
        ("training.optimizer={kind: sgd}", "training.optimizer.kind", '"adamw" → "sgd"'),
        ("training.schedule.warmup=5", "training.schedule.warmup", "10 → 5"),
        ("training.precision=bf16", "training.precision", '"fp32" → "bf16"'),
        ("training.max_norm=2", "training.max_norm", "1.0 → 2.0"),
        ("training.evaluate.samples=4", "training.evaluate.samples", "512 → 4"),
        ("data.holdout=0.1", "data.holdout", "0.05 → 0.1"),
        ("data.shards=2", "data.shards", "8 → 2"),
        ("data.source.glob=*.txt", "data.source.glob", '"**/*.py" → "*.txt"'),
        ("data.source={kind: csv, path: x}", "data.source.kind", '"text" → "csv"'),
    ],
)  # fmt: skip
def test_what_would_change_the_computation_is_refused(
    make_plan: Make, override: str, where: str, arithmetic: str
) -> None:
    (problem,) = resume_changes(make_plan(), make_plan(override)).problems
    assert (problem.where, problem.arithmetic) == (where, arithmetic)
    assert problem.works.startswith(arithmetic.partition(" → ")[0])
    assert "`--fresh` starts anew" in problem.works


@pytest.mark.parametrize(
    "override",
    [
        "data.tasks=4",
        "data.resources.cpu=1",
        "data.max_bad_files=0",
        "training.workers=4",
        "training.threads=2",
        "training.prefetch=2",
        "training.resources.cpu=2",
        "model.pipeline_schedule=gpipe",
        "model.virtual_stages=4",
        "model.activation_checkpoint=full",
        "coordination.checkpoint.keep_best=2",
        "coordination.checkpoint.asynchronous=false",
        "coordination.checkpoint.mtbf=1h",
        "coordination.hang_timeout=1m",
        "inference=null",
        "inference.promote.when.below=3",
        "coordination.checkpoint.every=3",
        "coordination.restarts.user=1",
    ],
)
def test_what_does_not_is_free(make_plan: Make, override: str) -> None:
    verdict = resume_changes(make_plan(), make_plan(override))
    assert verdict.problems == ()
    assert verdict.notes == ()


def test_more_steps_are_noted_with_what_they_do_to_the_schedule(make_plan: Make) -> None:
    verdict = resume_changes(make_plan(), make_plan("training.steps=300"))
    assert verdict.problems == ()
    assert verdict.notes == (
        "training.steps changed: 200 → 300; "
        "the cosine decay of the learning rate now ends at step 300",
    )
    constant = "training.schedule.decay=none"
    plain = resume_changes(make_plan(constant), make_plan(constant, "training.steps=100"))
    assert plain.notes == ("training.steps changed: 200 → 100",)


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        (
            ["model={shard: 1, replicate: -1}"],
            ["model.replicate 1 → -1, model.shard -1 → 1: the checkpoint is resharded; batch and "
             "order stay the same"],
        ),
        (
            ["model.tensor=2", "training.workers=4"],
            ["model.tensor 1 → 2: the checkpoint is resharded; batch and order stay the same",
             "random numbers that the model draws in training (dropout) are others than before: "
             "they depend on model.tensor"],
        ),
        (
            ["training.micro_batch=2", "model.context=2"],
            ["model.context 1 → 2: the checkpoint is resharded; batch and order stay the same",
             "random numbers that the model draws in training (dropout) are others than before: "
             "they depend on model.context and training.micro_batch"],
        ),
        (
            ["training.non_finite.then=rollback"],
            ["training.non_finite changed: 3 skips, then stop → 3 skips, then rollback; it counts "
             "from here on"],
        ),
    ],
)  # fmt: skip
def test_changes_that_are_free_but_matter_are_noted(
    make_plan: Make, overrides: list[str], notes: list[str]
) -> None:
    verdict = resume_changes(make_plan(), make_plan(*overrides))
    assert verdict.problems == ()
    assert list(verdict.notes) == notes


def test_all_changes_are_reported(make_plan: Make) -> None:
    verdict = resume_changes(make_plan(), make_plan("seed=1", "data.shards=2", "options.a=1"))
    assert {problem.where for problem in verdict.problems} == {"seed", "data.shards", "options.a"}


def test_the_lists_name_fields_that_exist() -> None:
    paths = {note.path for note in field_notes()}
    assert set(COMPUTED) <= paths
    assert set(FREE) <= paths
