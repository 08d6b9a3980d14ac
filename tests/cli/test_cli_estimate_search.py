"""The bodies of ``axis estimate`` and ``axis search``: files in, text or JSON out."""

from __future__ import annotations

import json

import pytest
import yaml

from orchestrator.cli.estimate_command import show_estimate
from orchestrator.cli.search_command import show_search
from orchestrator.errors import PlanError

pytestmark = pytest.mark.unit

SPEC = {
    "model": {"layers": 4, "hidden": 512, "heads": 8, "vocab": 1000},
    "training": {"seq_len": 512, "global_batch": 16},
    "hardware": {"device": "A100-80GB-SXM", "devices": 4},
}


def written(folder, values, name="spec.yaml"):
    path = folder / name
    text = json.dumps(values) if name.endswith("json") else yaml.safe_dump(values)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["spec.yaml", "spec.json"])
def test_one_specification_gives_one_estimate(tmp_path, capsys, name):
    show_estimate(written(tmp_path, SPEC, name), as_json=True)
    assert json.loads(capsys.readouterr().out)["devices"] == 4


def test_a_list_gives_a_list_and_two_are_compared(tmp_path, capsys):
    path = written(tmp_path, [SPEC, {**SPEC, "mesh": {"tp": 4}}])
    show_estimate(path, as_json=True)
    assert len(json.loads(capsys.readouterr().out)) == 2
    show_estimate(path, as_json=False)
    assert "faster than" in capsys.readouterr().out


def test_a_hardware_file_beside_the_specification(tmp_path, capsys):
    device = {
        "name": "mine",
        "generation": "mine",
        "peak_flops": {"bf16": 1e14},
        "flash": {"forward": 0.5, "backward": 0.4},
        "memory_bytes": "64GiB",
        "memory_bandwidth": "1TB/s",
        "intra": {"bandwidth": "100GB/s"},
        "inter": {"bandwidth": "50GB/s"},
    }
    written(tmp_path, device, "mine.yaml")
    spec = {**SPEC, "hardware": {"device": "mine.yaml", "devices": 4}}
    show_estimate(written(tmp_path, spec), as_json=False)
    assert "4 × mine" in capsys.readouterr().out
    spec["hardware"] = {"device": "absent.yaml"}
    with pytest.raises(PlanError, match=r"hardware\.device"):
        show_estimate(written(tmp_path, spec), as_json=False)


@pytest.mark.parametrize("text", ["a: [", "\t- x"])
def test_what_is_neither_yaml_nor_json(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match="YAML nor JSON"):
        show_estimate(str(path), as_json=False)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(PlanError, match="absent"):
        show_estimate(str(tmp_path / "absent.yaml"), as_json=False)


def test_a_search_prints_the_best(tmp_path, capsys):
    path = written(tmp_path, SPEC)
    show_search(path, "throughput", (), 2, as_json=True)
    view = json.loads(capsys.readouterr().out)
    assert len(view["ranked"]) == 2
    show_search(path, "memory", (2, 4), 5, as_json=False)
    assert "best by memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "metric", "said"),
    [(SPEC, "speed", "throughput, cost, memory"), ([SPEC, SPEC], "cost", "one specification")],
)
def test_what_cannot_be_searched(tmp_path, values, metric, said):
    with pytest.raises(PlanError, match=said):
        show_search(written(tmp_path, values), metric, (), 5, as_json=False)
