"""Whatever is written into a plan, the answer is a plan or a list of problems, never a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PlanError
from orchestrator.plan import dump_plan, parse_plan, resolved
from orchestrator.plan.fields import field_notes

pytestmark = pytest.mark.unit

BASE = "name: a\njob: a:B\ndata: {source: {kind: text, path: corpus}}\ninference: {}\n"
PATHS = sorted({note.path for note in field_notes()})

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(-2, 2),
    st.sampled_from(["", "x", "auto", "2m", "2min", "-1", "1GiB", "a:B", "csv", "sgd", "max"]),
    st.lists(st.integers(-1, 5), max_size=3),
    st.dictionaries(st.sampled_from(["kind", "path", "min", "x-y"]), st.integers(0, 3), max_size=2),
)
overrides = st.lists(st.tuples(st.sampled_from(PATHS), values), max_size=6)


@given(overrides)
def test_any_values_end_in_a_plan_or_in_problems(changes: list[tuple[str, Any]]) -> None:
    texts = [f"{path}={json.dumps(value)}" for path, value in changes]
    try:
        loaded = parse_plan(BASE, texts)
    except PlanError as error:
        problems = error.problems
    else:
        assert parse_plan(dump_plan(loaded.plan)).plan == loaded.plan
        assert resolved(loaded.plan)["sizes"]
        return
    # Nothing is said of fields that are sound, and each thing is said once.
    assert problems
    assert len({(p.where, p.what, p.file) for p in problems}) == len(problems)
    assert all(p.where and p.what for p in problems)


@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert caught.value.problems


@given(st.text(alphabet="abc:{}[],&*!|>-'\" \n\t#", max_size=40))
def test_any_near_yaml_is_read(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(f"name: x\n{text}")
    assert caught.value.problems


@given(st.text(max_size=30))
def test_any_override_is_read(text: str) -> None:
    try:
        parse_plan(BASE, [text])
    except PlanError as error:
        rendered = str(error)
    else:
        return
    assert "problem" in rendered
