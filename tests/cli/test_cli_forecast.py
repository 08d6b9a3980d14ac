"""``axis plan`` predicts what it can, says why it cannot, and stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.job_model import describe
from orchestrator.planner.calibration.hardware_file import calibrated
from tests.cli.conftest import Project
from tests.planner.calibration.timed_machines import machine
from tests.planner.forecast.plans import plan_of

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hardware(tmp_path: Path) -> str:
    file = tmp_path / "measured.yaml"
    file.write_text(calibrated(machine(), 0.05).text)
    return str(file)


def axis(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_plan_is_predicted_for_a_measured_machine(hardware: str) -> None:
    shown = axis("plan", "configs/gpt-stdlib.yaml", "--hardware", hardware)
    assert shown.returncode == 0, shown.stderr
    for words in ("prediction    2 workers: ", "binds: ", "why not fewer: ", "why not more: "):
        assert words in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 100
    told = axis("plan", "configs/gpt-mesh.yaml", "--hardware", hardware, "--json")
    sizes = json.loads(told.stdout)["prediction"]["sizes"]
    assert [size["workers"] for size in sizes] == [2, 4]
    assert all(size["parts"]["by_dimension"] for size in sizes)


def test_every_shipped_plan_is_predicted_or_refused_with_a_reason(hardware: str) -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        told = axis("plan", str(path), "--hardware", hardware, "--json")
        found = json.loads(told.stdout)["prediction"]
        assert bool(found["sizes"]) != bool(found["no_prediction"]), path
        if path.name == "digits.yaml":
            assert "import torch" in found["no_prediction"]
        else:
            assert found["sizes"], found


def test_predicting_loads_neither_torch_nor_ray(hardware: str) -> None:
    code = (
        "import sys; from orchestrator.cli.app import main\n"
        f"sys.argv = ['axis', 'plan', 'configs/gpt-stdlib.yaml', '--hardware', {hardware!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "binds: " in done.stdout
    assert not {"torch", "ray", "pyarrow"} & set(done.stderr.split())


def test_without_a_machine_it_says_how_to_have_one(project: Project) -> None:
    shown = project("plan", "plan.yaml")
    assert "axis calibrate" in " ".join(shown.out.split())


def test_a_machine_that_is_not_there_is_refused(project: Project) -> None:
    for name, words in (("none.yaml", "cannot be read"), ("A100-80GB-SXN", "A100-80GB-SXM")):
        shown = project("plan", "plan.yaml", "--hardware", name)
        assert shown.code == 2
        assert words in shown.out + shown.err


def test_the_file_of_the_folder_is_taken(project: Project) -> None:
    Path("hardware.yaml").write_text(calibrated(machine()).text)
    view = project("plan", "plan.yaml", "--json").json()
    assert "axis calibrate" not in view["prediction"]["no_prediction"]


def test_an_unsound_file_of_the_folder_refuses_no_plan(project: Project) -> None:
    Path("hardware.yaml").write_text("shopping: [bread]\n")
    shown = project("plan", "plan.yaml")
    assert shown.code == 0
    assert "hardware.yaml is no hardware file" in " ".join(shown.out.split())
    named = project("plan", "plan.yaml", "--hardware", "hardware.yaml")
    assert named.code == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import torch\n", "import torch"),
        ("from sub.part import x\n", "torch (by part.py)"),
        ("try:\n    import ray\nexcept ImportError:\n    pass\n", "import ray"),
        ("import nothing_like_it\n", "nothing_like_it"),
    ],
)
def test_a_heavy_module_is_not_imported(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "__init__.py").write_text("")
    (tmp_path / "sub" / "part.py").write_text("import torch\nx = 1\n")
    (tmp_path / "heavy_job.py").write_text(f"{source}raise SystemExit('imported')\n")
    found = describe(plan_of("job=heavy_job:Mine"), tmp_path)
    assert found.model is None
    assert words in found.why_not


def test_what_only_type_checkers_import_is_light(tmp_path: Path) -> None:
    (tmp_path / "light_job.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from orchestrator import Job, Transformer\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "class Mine(Job):\n"
        "    def transformer(self):\n"
        "        return Transformer(layers=1, hidden=8, heads=1, vocab=9, seq_len=4)\n"
        "class Raises(Job):\n"
        "    def transformer(self):\n"
        "        return 1 / 0\n"
    )
    found = describe(plan_of("job=light_job:Mine"), tmp_path)
    assert found.model is not None
    assert found.model.hidden == 8
    assert "ZeroDivisionError" in describe(plan_of("job=light_job:Raises"), tmp_path).why_not
    assert "not in this folder" in describe(plan_of("job=elsewhere:Job"), tmp_path).why_not
