from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import (
    Plan,
    dump_plan,
    json_schema,
    load_plan,
    parse_plan,
    plan_hash,
    resolved,
)

pytestmark = pytest.mark.unit

Make = Callable[..., Plan]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.sampled_from(["1e3", "3e-4", "yes", "null", "~", "<<", "=", "0o7", "1_0", ".inf", "- a"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), inner),
    ),
    max_leaves=8,
)


def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values, max_size=4))
def test_any_options_reload_equal(options: dict[str, Any]) -> None:
    plan = Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "options": options,
            "data": {"source": {"kind": "text", "path": "corpus"}},
        }
    )
    again = parse_plan(dump_plan(plan)).plan
    assert again == plan
    assert plan_hash(again) == plan_hash(plan)


def test_a_resolved_plan_reloads_equal(tmp_path: Path, make_plan: Make) -> None:
    plan = make_plan("training.optimizer={kind: sgd, momentum: 0.5}", "inference.example={a: [1]}")
    path = tmp_path / "plan.yaml"
    path.write_text(dump_plan(plan), encoding="utf-8")
    again = load_plan(path).plan
    assert again == plan
    assert dump_plan(again) == dump_plan(plan)


def test_the_header_names_version_and_hash(make_plan: Make) -> None:
    first, second, *_ = dump_plan(make_plan()).splitlines()
    assert first.startswith("# Axis plan, resolved by axis-orchestrator ")
    assert second == f"# sha256 {plan_hash(make_plan())}"


def test_the_hash_is_of_what_is_meant_not_of_how_it_is_written(make_plan: Make) -> None:
    plan = make_plan()
    assert plan_hash(make_plan("coordination.gang.timeout=120s", "training.workers=[2,4]")) == (
        plan_hash(plan)
    )
    assert len({plan_hash(plan), plan_hash(make_plan("seed=1")), plan_hash(
        make_plan("options.x=1")), plan_hash(make_plan("options.x=1.0"))}) == 4  # fmt: skip


def test_every_field_of_the_schema_is_described() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Axis plan"
    entries = list(_properties(schema))
    assert len(entries) > 70
    assert [name for name, entry in entries if not entry.get("description")] == []
    assert json.loads(json.dumps(schema)) == schema


def test_the_defaults_in_the_schema_are_valid_and_written_as_a_person_would() -> None:
    schema = json_schema()
    training = schema["$defs"]["Training"]["properties"]
    assert training["workers"]["default"] == 1
    assert schema["$defs"]["Gang"]["properties"]["timeout"]["default"] == "2m"
    for name, entry in _properties(schema):
        if "default" in entry:
            errors = list(
                jsonschema.Draft202012Validator({**entry, "$defs": schema["$defs"]}).iter_errors(
                    entry["default"]
                )
            )
            assert errors == [], name


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("training.workers=4", "training.micro_batch=4", "coordination.checkpoint.every=10"),
        ("training.optimizer={lr: 1e-3}",),
        ("training.optimizer={kind: sgd, lr: 1e-3}",),
        ("data.source={kind: jsonl, path: x}", "inference=null", "options={a: [1, {b: null}]}"),
        (
            "model={pipeline: 2, pipeline_schedule: interleaved-1f1b, virtual_stages: 3}",
            "training.non_finite={max_skips: 0, then: rollback, max_rollbacks: 1}",
        ),
        (
            "coordination.checkpoint={keep_best: 2, asynchronous: false, mtbf: 6h}",
            "coordination.hang_timeout=90",
            "model.activation_checkpoint=selective",
        ),
        ("data.source={kind: parquet, path: x, columns: [a]}", "training.resources.memory=2GiB"),
        ("data.source={kind: python, target: 'a.b:c', arguments: {n: 3}}", "model={shard: -1}"),
    ],
)
def test_the_schema_accepts_what_the_loader_accepts(
    full_text: str, overrides: tuple[str, ...]
) -> None:
    loaded = parse_plan(full_text, overrides)
    check = validator()
    check.validate(loaded._tree.root)
    check.validate(yaml.safe_load(dump_plan(loaded.plan)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("trainin",), {}),
        (("name",), "Bad Name"),
        (("job",), "jobs/gpt.py"),
        (("training", "workers"), [1, 2, 3]),
        (("training", "workers"), 0),
        (("training", "micro_batch"), "half"),
        (("coordination", "gang", "timeout"), "2min"),
        (("model", "tensor"), 0),
        (("model", "pipeline_schedule"), "1F1B"),
        (("model", "virtual_stages"), 0),
        (("model", "activation_checkpoint"), True),
        (("training", "non_finite"), {"then": "ignore"}),
        (("training", "non_finite"), {"max_skip": 1}),
        (("coordination", "checkpoint", "keep_best"), 0),
        (("coordination", "checkpoint", "mtbf"), "6hours"),
        (("coordination", "hang_timeout"), "never"),
        (("data", "source"), {"path": "x"}),
        (("data", "source", "delimiter"), ";"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(
    full_text: str, path: tuple[str, ...], value: object
) -> None:
    root = parse_plan(full_text)._tree.root
    section = root
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = value
    assert not validator().is_valid(root)


def test_the_resolved_view(make_plan: Make) -> None:
    view = resolved(make_plan())
    assert json.loads(json.dumps(view)) == view
    assert [size["workers"] for size in view["sizes"]] == [2, 4]
    assert view["sizes"][0] == {
        "workers": 2,
        "mesh": {
            "replicate": 1, "shard": 2, "tensor": 1, "pipeline": 1, "context": 1, "expert": 1
        },
        "batch_degree": 2,
        "per_worker": 16,
        "micro_batch": 8,
        "accumulation": 2,
        "pipeline": None,
    }  # fmt: skip
    assert view["num_samples_trained"] == 6400
    assert view["plan"]["coordination"]["gang"]["timeout"] == "2m"


def _properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, definition in {"Plan": schema, **schema["$defs"]}.items():
        for name, entry in definition["properties"].items():
            yield f"{title}.{name}", entry
