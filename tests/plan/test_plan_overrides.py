from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import Problem
from orchestrator.plan import Plan

pytestmark = pytest.mark.unit

Find = Callable[..., dict[str, Problem]]
Make = Callable[..., Plan]


def test_values_are_yaml(make_plan: Make) -> None:
    plan = make_plan(
        "training.workers=[1, 2]",
        "training.optimizer.lr=3e-5",
        "coordination.gang.timeout=1h30m",
        "options.layers=2",
        "options.shape={heads: 4}",
        "options.shape.heads=8",
        "job=jobs.other:Thing",
    )
    assert (plan.training.workers.min, plan.training.workers.max) == (1, 2)
    assert plan.training.optimizer.lr == 3e-5
    assert plan.coordination.gang.timeout == 5400.0
    assert plan.options == {"layers": 2, "shape": {"heads": 8}}
    assert plan.job == "jobs.other:Thing"


def test_list_elements_by_index(make_plan: Make) -> None:
    plan = make_plan("training.optimizer.betas=[0.5, 0.6]", "training.optimizer.betas.1=0.7")
    assert plan.training.optimizer.kind == "adamw"
    assert plan.training.optimizer.betas == (0.5, 0.7)
    assert make_plan("training.workers.0=1").training.workers.min == 1


def test_the_last_one_wins(make_plan: Make) -> None:
    assert make_plan("seed=1", "seed=2").seed == 2


def test_null_turns_an_axis_off_and_a_field_turns_it_on(make_plan: Make) -> None:
    assert make_plan("inference=null").inference is None
    plan = make_plan("inference=null", "inference.port=9000")
    assert plan.inference is not None
    assert plan.inference.port == 9000
    assert plan.inference.slo.p99 is None


def test_a_glob_is_text_although_yaml_has_aliases(make_plan: Make) -> None:
    assert make_plan("data.source.glob=**/*.txt").data.source.glob == "**/*.txt"


def test_an_equals_sign_in_the_value(make_plan: Make) -> None:
    assert make_plan("options.a=b=c").options == {"a": "b=c"}


@pytest.mark.parametrize(
    ("override", "where", "what", "works"),
    [
        ("seed", "seed", "is not an override: expected path=value", "training.workers=4"),
        ("=3", "override", "is not an override: expected path=value", "training.workers=4"),
        ("a..b=3", "a..b", "a dot must stand between two names", "training.workers"),
        ("seed.x=3", "seed.x", None, ""),
        ("training.steps.x=3", "training.steps.x",
         "training.steps is 200, which has nothing inside to set", ""),
        ("training.workers.2=3", "training.workers.2",
         "training.workers is a list of 2 without element 2", "an index from 0 to 1"),
        ("training.workers.x=3", "training.workers.x",
         "training.workers is a list of 2 without element x", "an index from 0 to 1"),
        ("data.shards=[", "data.shards", None, ""),
        ("data.shards={a: 1, a: 2}", "data.shards", None, ""),
        ("options=!!set {a}", "options",
         "has the tag tag:yaml.org,2002:set; a plan holds plain values only", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_set(
    find_problems: Find, override: str, where: str, what: str | None, works: str
) -> None:
    found = find_problems(override)
    assert found, override
    problem = found.get(where) or next(iter(found.values()))
    assert problem.file == f"command line: {override}"
    assert problem.line is None
    if what is not None:
        assert (problem.where, problem.what, problem.works) == (where, what, works)


def test_all_of_them_are_reported(find_problems: Find) -> None:
    assert set(find_problems("seed", "training.wrokers=4", "data.shards=0")) == {
        "seed",
        "training.wrokers",
        "data.shards",
    }
