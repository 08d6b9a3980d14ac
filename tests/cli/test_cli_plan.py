"""``axis plan``: quick, light, complete, and readable."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.plan import load_plan, parse_plan
from tests.cli.conftest import Project

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"ray", "torch", "pyarrow", "numpy", "rich", "httpx", "pandas", "sklearn"}
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))

PROBE = """\
import sys
from orchestrator.cli.app import main
sys.argv = ["axis", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(end.code, *sys.modules, file=sys.stderr)
"""


SPLITTABLE = """\
from orchestrator import Job, Split


class Tiny(Job):
    def arguments(self, prepared):
        return (prepared["x"],), {}

    def criterion(self, outputs, prepared):
        return outputs.mean()

    def split(self):
        return Split(
            blocks="layers",
            num_blocks=6,
            tensor={"layers.*": "colwise"},
            sequence={"x": 1},
            divisible={"tensor": {"heads": 4, "length": 24}, "context": {"length": 24}},
        )
"""
"""A Job whose model can be cut; it is never built."""


def imported_by(*arguments: str) -> set[str]:
    """The top-level modules that a whole command imports."""
    command = [sys.executable, "-c", PROBE, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, *modules = done.stderr.splitlines()[-1].split()
    assert code == "0", done
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("arguments", [(), ("--json",), ("training.workers=4",)])
def test_a_plan_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not imported_by("plan", "configs/gpt-stdlib.yaml", *arguments) & HEAVY


@pytest.mark.parametrize("command", [("--help",), ("schema",), ("version",), ("run", "--help")])
def test_what_needs_no_plan_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    assert not imported_by(*command) & HEAVY


def test_looking_at_runs_imports_neither_ray_nor_torch() -> None:
    assert not imported_by("ls") & {"ray", "torch"}


def test_a_plan_is_told_at_once() -> None:
    """Measured 0.25 s on two cores; the bound leaves room for a loaded machine."""
    seconds = []
    for _ in range(4):
        began = time.monotonic()
        command = [sys.executable, "-m", "orchestrator.cli", "plan", "configs/gpt-stdlib.yaml"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1.5, seconds


@pytest.mark.parametrize("name", CONFIGS)
def test_no_line_of_the_text_is_too_long(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(ROOT)
    text = project("plan", f"configs/{name}").out
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_the_resolved_plan_in_the_text_reloads_equal(project: Project) -> None:
    text = project("plan", "plan.yaml", "training.workers=[1, 4]").out
    shown = text.partition("\n\n")[0]
    loaded = load_plan("plan.yaml", ["training.workers=[1, 4]"])
    assert parse_plan(shown).plan == loaded.plan


def test_the_text_says_where_each_number_comes_from(project: Project) -> None:
    text = " ".join(project("plan", "plan.yaml", "training.workers=[1, 2]").out.split())
    for part in (
        "4 steps × 8 samples = 32 samples",
        "1 worker mesh of one batch 8 = 1 × 8 samples, in 2 passes of 4",
        "2 workers mesh replicate 2 batch 8 = 2 × 4 samples, in 1 pass of 4",
        "reserves 2 × {CPU: 1}, all or none, within 2m; data tasks, workers and replicas",
        "as often as costs least, by what one is measured to take and how often something fails "
        "(once in 1d until the run knows better), and after the last step",
        "1 replica at http://127.0.0.1:8000/little",
        "runs/little/checkpoints/ committed checkpoints",
        "Nothing was started or written.",
    ):
        assert part in text, text


def test_the_text_shows_where_ranks_stand(project: Project) -> None:
    project.write(f"{project.job}.py", SPLITTABLE)
    overrides = ("training.workers=4", "model={shard: 2, tensor: 2}")
    text = project("plan", "plan.yaml", *overrides).out
    assert "mesh shard 2 × tensor 2" in text
    assert "ranks by (shard, tensor): 0 at (0,0); 1 at (0,1); 2 at (1,0); 3 at (1,1)" in text
    assert "batch 8 = 2 × 4 samples (each shared by 2 workers), in 1 pass of 4" in text


def test_the_text_tells_each_mesh_of_an_elastic_plan(project: Project) -> None:
    project.write(f"{project.job}.py", SPLITTABLE)
    overrides = ("training.workers=[2, 4]", "model={shard: 2, tensor: 2}")
    text = " ".join(project("plan", "plan.yaml", *overrides).out.split())
    assert "2 workers mesh tensor 2 batch 8 = 1 × 8 samples" in text
    assert "4 workers mesh shard 2 × tensor 2 ranks" in text


def test_the_text_tells_how_a_pipeline_is_filled(project: Project) -> None:
    project.write(f"{project.job}.py", SPLITTABLE)
    overrides = ("training.workers=2", "model={pipeline: 2}")
    text = " ".join(project("plan", "plan.yaml", *overrides).out.split())
    assert "batch 8 = 1 × 8 samples (each shared by 2 workers), in 4 micro-batches of 2" in text
    assert "pipeline of 2 stages, 1f1b: its workers wait 20% of the time" in text
    size = project("plan", "plan.yaml", *overrides, "--json").json()["sizes"][0]
    assert size["pipeline"] == {
        "schedule": "1f1b", "stages": 2, "micro_batches": 4, "idle_share": 0.2,
    }  # fmt: skip


def test_experts_are_no_factor_of_the_mesh(project: Project) -> None:
    project.write(f"{project.job}.py", SPLITTABLE.replace("blocks=", 'experts="x", blocks='))
    text = project("plan", "plan.yaml", "training.workers=4", "model.expert=2").out
    assert "mesh replicate 4, with experts over 2 of its ranks" in text


def test_a_job_that_cannot_be_asked_is_a_warning(project: Project) -> None:
    project.write(f"{project.job}.py", "import absent_library\n\n\nclass Tiny:\n    pass\n")
    told = project("plan", "plan.yaml", "model.tensor=2")
    assert told.code == 0
    warning = " ".join(told.out.split())
    assert "warning: whether the model can be cut as the mesh asks is not known: job: " in warning
    assert "No module named 'absent_library'" in warning
    assert project("plan", "plan.yaml").out.count("warning") == 0


def test_many_numbers_of_workers_are_told_in_few_lines(project: Project) -> None:
    text = project("plan", "plan.yaml", "training.workers=[1,64]", "training.global_batch=64").out
    assert "… and 3 more numbers of workers …" in text
    assert "64 workers" in text


def test_the_json_is_complete(project: Project) -> None:
    project.write(f"{project.job}.py", SPLITTABLE)
    overrides = ("training.workers=[2, 4]", "model={replicate: -1, tensor: 2}")
    view = project("plan", "plan.yaml", *overrides, "--json").json()
    plan = load_plan("plan.yaml", overrides).plan
    assert parse_plan(json.dumps(view["plan"])).plan == plan
    assert len(view["hash"]) == 64
    assert [size["workers"] for size in view["sizes"]] == [2, 4]
    four = view["sizes"][1]
    assert four["mesh"]["replicate"] == 2
    assert four["mesh"]["tensor"] == 2
    assert [rank["coordinate"]["tensor"] for rank in four["ranks"]] == [0, 1, 0, 1]
    assert [rank["batch_rank"] for rank in four["ranks"]] == [0, 0, 1, 1]
    assert four["bundles"] == [{"count": 4, "resources": {"CPU": 1.0}, "text": "4 × {CPU: 1}"}]
    assert four["total"] == {"CPU": 4.0}
    assert view["checkpoints"] == {
        "every": "auto", "interval_steps": None, "count": None, "asynchronous": True,
        "mtbf_seconds": 86400.0, "keep": 3, "keep_best": 1, "evaluated_samples": 512,
    }  # fmt: skip
    assert view["writes"]["runs/little/plan.yaml"]
    assert view["warnings"] == []


def test_a_large_mesh_has_no_list_of_ranks(project: Project) -> None:
    overrides = ("training.workers=128", "training.global_batch=128", "model={shard: 2}")
    view = project("plan", "plan.yaml", *overrides, "--json").json()
    assert view["sizes"][0]["ranks"] is None
    assert project("plan", "plan.yaml", *overrides).code == 0


def test_a_billion_steps_are_planned_as_soon_as_four(project: Project) -> None:
    overrides = ("training.steps=1000000000", "coordination.checkpoint.every=1")
    told = project("plan", "plan.yaml", *overrides)
    assert told.seconds < 5
    assert "1,000,000,000: every 1 steps" in told.out


def test_nothing_is_written(project: Project) -> None:
    before = project.files()
    assert project("plan", "plan.yaml").code == 0
    assert project.files() == before
