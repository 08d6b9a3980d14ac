"""The sbatch script: its options are the plan's, and it runs: head, workers, token, the end."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.render.slurm import SlurmProfile, load_slurm_profile, script
from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.render.kubernetes_schemas import ROOT
from tests.render.plans import SHAPES, plan_of
from tests.render.test_deploy import tool

STUBS = ROOT / "tests" / "slurm_stubs"


def options_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^#SBATCH --([a-z-]+)=?(.*)$", text))


# ------------------------------------------------------------------ what is written


@pytest.mark.unit
@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"labels"}))
def test_each_script_is_linted(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "job.sbatch"
    path.write_text(script(plan_of(shape), SlurmProfile(), "plan.yaml", ("a.b=[1, 2]",)))
    done = subprocess.run(
        [tool("shellcheck"), str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.unit
def test_nodes_are_the_elastic_range() -> None:
    options = options_of(script(plan_of("elastic"), SlurmProfile(), "plan.yaml"))
    assert options["nodes"] == "1-2"  # 2 to 4 workers of half a CPU, two on a node
    assert options["ntasks-per-node"] == "1"
    assert options["cpus-per-task"] == "2"  # one for Ray


@pytest.mark.unit
def test_nodes_are_filled_when_their_size_is_known() -> None:
    profile = load_slurm_profile({"p": "node: {cpu: 64, gpu: 8}\ngpu_type: h100\nqos: high\n"})
    text = script(plan_of("tensor-gpus"), profile, "plan.yaml")
    options = options_of(text)
    assert (options["nodes"], options["gres"], options["qos"]) == ("1-2", "gpu:h100:8", "high")
    assert "NODE_OPTIONS=(--num-cpus=64 --num-gpus=8)" in text


@pytest.mark.unit
def test_the_time_limit_leaves_time_for_the_checkpoint() -> None:
    plan = plan_of("batch", "coordination.stop_timeout=5m")
    options = options_of(script(plan, SlurmProfile(time=90_061), "plan.yaml"))
    assert options["time"] == "1-01:01:01"
    assert options["signal"] == "B:USR1@330"
    with pytest.raises(PlanError, match="leaves no time"):
        script(plan, SlurmProfile(time=200), "plan.yaml")


@pytest.mark.unit
def test_axes_on_different_nodes_are_refused() -> None:
    with pytest.raises(PlanError, match="gives nodes of one kind"):
        script(plan_of("labels"), SlurmProfile(), "plan.yaml")


@pytest.mark.unit
def test_labels_and_custom_resources_reach_ray() -> None:
    plan = plan_of(
        "custom",
        "inference=null",
        "data.resources.label_selector={rack: a}",
        "training.resources.label_selector={rack: a}",
    )
    text = script(plan, SlurmProfile(), "plan.yaml")
    assert "--labels=rack=a" in text
    assert "'--resources={\"licence\": 1}'" in text


@pytest.mark.unit
def test_the_script_is_the_same_again_and_quotes_what_it_is_given() -> None:
    changes = ("training.resources={cpu: 1}", "name=it's")
    once = script(plan_of("batch"), SlurmProfile(), "my plan.yaml", changes)
    assert once == script(plan_of("batch"), SlurmProfile(), "my plan.yaml", changes)
    line = next(line for line in once.splitlines() if line.startswith("RUN="))
    shown = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "${{RUN[@]}}"'],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert shown.stdout.splitlines() == ["axis", "run", "my plan.yaml", *changes]


@pytest.mark.unit
def test_a_profile_is_checked() -> None:
    with pytest.raises(PlanError, match="partiton") as refused:
        load_slurm_profile({"ours.yaml": "partiton: gpu"})
    assert "partition" in refused.value.problems[0].works


# ------------------------------------------------------------------ what it does


class Slurm:
    """Submits scripts to stand-ins of sbatch, srun and scontrol, on this machine."""

    def __init__(self, axis: Axis, folder: Path) -> None:
        self.axis, self.folder = axis, folder
        self.job_id = 100_000 + os.getpid() % 100_000
        self.log = folder / "slurm.log"
        self.log.touch()
        path = f"{STUBS}:{self.axis.environment['PATH']}"
        self.environment = {
            **axis.environment,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "STUB_LOG": str(self.log),
            "STUB_JOB_ID": str(self.job_id),
        }
        # The Job's code lies where the script is submitted, as on a shared file system.
        for name in ("jobs", "configs"):
            (folder / name).symlink_to(ROOT / name)

    def submit(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        storage = f"storage={self.axis.storage}"
        done = self.axis(
            "render", "configs/digits.yaml", storage, "inference=null", *overrides,
            "--target", "slurm", "-o", str(self.folder),
        )  # fmt: skip
        assert done.code == 0, done
        process = subprocess.Popen(
            ["sbatch", "digits.sbatch"],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.axis.started.append(process)
        return process

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def private(self) -> Path:
        return self.folder / f".axis-slurm-{self.job_id}"

    def assert_clean(self) -> None:
        """Neither token nor session is left; processes are looked for by the fixture."""
        assert not self.private.exists()
        assert not Path(f"/tmp/axis-{self.job_id}").exists()


@pytest.fixture
def slurm(axis: Axis, tmp_path: Path) -> Slurm:
    folder = tmp_path / "submitted"
    folder.mkdir()
    return Slurm(axis, folder)


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_plan_is_carried_out_over_the_allocation(slurm: Slurm) -> None:
    process = slurm.submit("training.workers=2", "training.resources.cpu=1", "training.steps=20")
    seen = []

    def token_is_there() -> bool:
        token = slurm.private / "token"
        if token.exists():
            seen.append(
                (stat.S_IMODE(token.stat().st_mode), stat.S_IMODE(slurm.private.stat().st_mode))
            )
        return bool(seen) or process.poll() is not None

    wait_until(token_is_there, PATIENCE_SECONDS, "the token")
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    assert "digits: done (exit code 0)" in out
    assert seen[0] == (0o600, 0o700)
    starts = [call for call in slurm.calls() if "ray start" in call]
    assert len(starts) == 2
    head, workers = starts
    assert head.startswith("srun node1 ray start --head")
    assert "--num-cpus=0" in head
    assert workers.startswith("srun node1,node2 ray start --block --address=")
    steps = {r["step"] for r in slurm.axis.metrics("digits") if r["kind"] == "step"}
    assert steps == set(range(1, 21))
    slurm.assert_clean()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_time_limit_leaves_a_checkpoint_and_the_job_goes_on(slurm: Slurm) -> None:
    steps = "training.steps=4000"
    process = slurm.submit("training.workers=1", "training.resources.cpu=1", steps)
    slurm.axis.await_step("digits", 20)
    process.send_signal(signal.SIGUSR1)  # as --signal=B:USR1@… does, to the script alone
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 6, out
    assert "requeued: the run goes on from its last checkpoint" in out
    assert f"scontrol requeue {slurm.job_id}" in slurm.calls()
    slurm.assert_clean()
    committed = slurm.axis.events("digits", "checkpoint-committed")[-1]["checkpoint"]["step"]
    assert committed >= 20
    again = slurm.submit(
        "training.workers=1", "training.resources.cpu=1", f"training.steps={committed + 5}",
        SLURM_RESTART_COUNT="1",
    )  # fmt: skip
    out, _ = again.communicate(timeout=PATIENCE_SECONDS)
    assert again.returncode == 0, out
    first = min(
        record["step"]
        for record in slurm.axis.metrics("digits")
        if record["kind"] == "step" and record["attempt"] == 2
    )
    assert first == committed + 1
    slurm.assert_clean()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_allocation_that_is_too_small_is_refused(slurm: Slurm) -> None:
    process = slurm.submit("training.workers=2", "training.resources.cpu=2", STUB_NODES="1")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 3, out
    assert "1 nodes are fewer than the 2 that the plan needs" in out
    slurm.assert_clean()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_head_that_does_not_come_up_is_told_with_what_it_said(slurm: Slurm) -> None:
    broken = slurm.folder / "bin"
    broken.mkdir()
    (broken / "ray").write_text("#!/bin/sh\necho 'no such option: --head' >&2\nexit 2\n")
    (broken / "ray").chmod(0o755)
    slurm.environment["PATH"] = f"{broken}:{slurm.environment['PATH']}"
    began = time.monotonic()
    process = slurm.submit("training.workers=1")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1, out
    assert "the head did not come up" in out
    assert "no such option: --head" in out
    assert time.monotonic() - began < 60
    slurm.assert_clean()
