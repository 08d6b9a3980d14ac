"""What the design looks like: the worksheet, the JSON, the chart and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.cli.design_command import show_design
from orchestrator.cli.plan_command import load_checked
from orchestrator.errors import PlanError
from orchestrator.plan import legal_workers
from orchestrator.planner.design import plan_yaml, radar_svg, worksheet
from tests.planner.design.shipped import FOLDER, NAMES, designed, loaded

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).with_name("golden")
ROOT = FOLDER.parents[1]


@pytest.mark.parametrize("name", ["fraud-scoring", "hospital-consortium"])
def test_the_worksheet_reads_as_it_did(name: str) -> None:
    """A golden page: where a change is meant, read the new page before replacing the old one."""
    page = worksheet(designed(name), loaded(name).defaults) + "\n"
    assert page == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_page_has_all_stages_within_the_width(name: str) -> None:
    page = worksheet(designed(name), loaded(name).defaults)
    for stage in ("1 CEILING", "2 AXES", "3 TOPOLOGY", "4 MODE", "5 METRIC", "6 TAXES", "DEFAULTS"):
        assert f"\n{stage}" in page
    assert max(map(len, page.splitlines())) <= 100
    assert len(page.splitlines()) <= 75


def test_stages_are_moot_on_one_machine() -> None:
    page = worksheet(designed("delivery-times", "serving.requests_per_second=10"), ())
    assert "none: one machine is enough" in page
    assert "moot" in page


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_one_that_axis_plan_accepts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = designed(name)
    file = tmp_path / "plan.yaml"
    file.write_text(plan_yaml(found), encoding="utf-8")
    plan = load_checked(str(file), []).plan
    pool = found.final.sizing.training
    if pool is not None:
        assert legal_workers(plan)[-1] == pool.num_devices // pool.parties
    if found.final.sizing.serving is not None:
        assert plan.inference is not None
        assert plan.inference.replicas.max == found.final.sizing.serving.replicas
    assert "FILL IN" in file.read_text(encoding="utf-8")
    assert max(map(len, file.read_text(encoding="utf-8").splitlines())) <= 100


def test_the_chart_is_svg_with_every_axis_and_number() -> None:
    chart = radar_svg("Fraud & <co>", designed("fraud-scoring").final.pressures)
    root = ElementTree.fromstring(chart)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Fraud & <co>", "inference", "0.95", "model", "0.10"} <= texts
    assert {"data", "training", "coordination", "intelligence"} <= texts


def test_the_command_prints_json_that_holds_the_design(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_design(str(FOLDER / "fraud-scoring.yaml"), [], as_json=True) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["kind"], values["ceiling"], values["mode"]) == (
        "design", "throughput", "interactive",
    )  # fmt: skip
    serving = values["rounds"][0]["taxes"]["serving"]
    assert serving["left_seconds"] == pytest.approx(0.0176)
    assert {"where", "value", "meaning"} == set(values["defaults"][0])


def test_the_command_writes_what_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radar, plan = str(tmp_path / "radar.svg"), str(tmp_path / "plan.yaml")
    source = str(FOLDER / "crawl-40tb.yaml")
    for _ in range(2):  # what was written here may be written again
        assert show_design(source, [], False, radar, plan) == 0
    assert f"Written: {radar}, {plan}." in capsys.readouterr().out
    assert Path(plan).read_text(encoding="utf-8") == plan_yaml(designed("crawl-40tb"))


def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "plan.yaml"
    mine.write_text("name: mine\n", encoding="utf-8")
    with pytest.raises(PlanError, match="left as it is"):
        show_design(str(FOLDER / "crawl-40tb.yaml"), [], False, None, str(mine))
    assert mine.read_text(encoding="utf-8") == "name: mine\n"


def test_what_cannot_be_had_ends_with_three_and_is_still_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = str(FOLDER / "fraud-scoring.yaml")
    assert show_design(source, ["serving.latency=4.2ms"], False) == 3
    page = " ".join(capsys.readouterr().out.split())
    assert "UNMET" in page
    assert "works: a larger budget" in page


def test_a_missing_file_names_those_that_are_there() -> None:
    with pytest.raises(PlanError, match=r"fraud-scoring\.yaml"):
        show_design(str(FOLDER / "fraud.yaml"), [], False)
