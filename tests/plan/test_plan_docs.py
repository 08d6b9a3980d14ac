"""The messages that docs/meshes.md shows are the ones that are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.job_import import load_job_for_mesh
from orchestrator.plan import Plan, load_plan, mesh_for
from orchestrator.plan.mesh import Mesh

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "meshes.md").read_text(encoding="utf-8")
REFUSED = re.findall(r"\(`(training\.[^`]*)`\):\n\n```\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("overrides", "shown"), REFUSED, ids=[each for each, _ in REFUSED])
def test_the_page_shows_real_refusals(
    overrides: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    # A range is written with a space that a shell would cut at.
    arguments = (
        [overrides] if overrides.startswith("training.workers=[") else shlex.split(overrides)
    )
    with pytest.raises(PlanError) as caught:
        load_job_for_mesh(load_plan(ROOT / "configs/gpt-mesh.yaml", arguments))
    (problem,) = caught.value.problems
    assert f"{problem.render()}\n" == shown


def test_all_refusals_of_the_page_were_found() -> None:
    assert len(REFUSED) == 7


@pytest.mark.parametrize("column", [1, 2])
def test_the_page_shows_the_meshes_that_an_elastic_plan_takes(column: int) -> None:
    rows = [row.strip("|").split("|") for row in PAGE.splitlines() if row.startswith("| workers |")]
    model = rows[-1][column].strip().strip("`{}")
    degrees = {name: int(value) for name, value in (each.split(": ") for each in model.split(", "))}
    plan = Plan.model_validate(
        {
            "name": "a",
            "job": "a:B",
            "data": {"source": {"kind": "text", "path": "x"}},
            "training": {"workers": [1, 8]},
            "model": degrees,
        }
    )
    table = PAGE.partition("| workers | `{")[2].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 5
    for row in table:
        workers, *meshes = [cell.strip() for cell in row.strip("|").split("|")]
        shown = meshes[column - 1]
        if shown.startswith("none"):
            with pytest.raises(ValueError, match="whole copies"):
                mesh_for(plan, int(workers))
            continue
        pairs = (each.split(" ") for each in shown.split(" × "))
        assert mesh_for(plan, int(workers)) == Mesh(**{name: int(n) for name, n in pairs})
