"""Every plan that is shipped loads without a problem, and its Job exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.plan import check_targets, dump_plan, json_schema, load_plan, parse_plan
from orchestrator.plan.yaml_tree import read_tree

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


def documents() -> list[Path]:
    """Every YAML file under configs/."""
    return sorted(p for p in (ROOT / "configs").rglob("*") if p.suffix in (".yaml", ".yml"))


def is_plan(path: Path) -> bool:
    """Plans say which job they run; hardware and cluster descriptions do not."""
    document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(document, dict) and "job" in document


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_document_is_yaml_that_a_plan_could_be_written_in() -> None:
    for path in documents():
        assert read_tree(path.read_text(encoding="utf-8"), name_of(path)).problems == []


@pytest.mark.parametrize("path", [p for p in documents() if is_plan(p)], ids=name_of)
def test_a_shipped_plan_loads(path: Path) -> None:
    loaded = load_plan(path)
    assert check_targets(loaded.plan, ROOT) == ()
    assert parse_plan(dump_plan(loaded.plan)).plan == loaded.plan
    tree = read_tree(path.read_text(encoding="utf-8"), name_of(path))
    jsonschema.Draft202012Validator(json_schema()).validate(tree.root)
