"""``torchrun -m orchestrator.parallel``: from a plan and a store to checkpoints, and on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import DIGITS, Stores

pytestmark = [pytest.mark.gloo, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(plan: Path, store: str, run: str, *more: str) -> list[str]:
    module = ["-m", "orchestrator.parallel", str(plan), "--store", store, "--run-dir", run]
    return [*module, "--record-ids", *more]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(DIGITS)
    return path


def lines(run: str, kind: str) -> list[dict[str, Any]]:
    text = Path(run, "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def test_two_workers_then_a_stop_then_one_worker_to_the_end(
    plan: Path, stores: Stores, new_run: Callable[[], str]
) -> None:
    run = new_run()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", "2"]  # fmt: skip
    first = subprocess.run(
        [*torchrun, *command(plan, stores.digits, run, "training.steps=10")],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert "2 workers on cpu" in first.stdout
    assert [line["step"] for line in lines(run, "step")] == list(range(1, 11))
    # Far from its end when the signal comes.
    alone = [sys.executable, *command(plan, stores.digits, run, "training.steps=1000000",
                                      "coordination.checkpoint.every=1000000")]  # fmt: skip
    process = subprocess.Popen(
        alone, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("step "):
            break
    assert "steps 10 to 1000000" in "".join(seen), seen
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "Interrupted: stopped after step" in errors
    stopped = lines(run, "checkpoint")[-1]["step"]
    assert stopped > 10
    last = subprocess.run(
        [sys.executable, *command(plan, stores.digits, run, f"training.steps={stopped + 3}")],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert last.returncode == 0, last.stderr
    assert [line["step"] for line in lines(run, "step")] == list(range(1, stopped + 4))
    assert [line["attempt"] for line in lines(run, "started")] == [1, 2, 3]
    recorded = sorted(path.name for path in Path(run, "ids").iterdir())
    assert recorded == [f"attempt-000{a}-rank-000{r}.jsonl"
                        for a, r in ((1, 0), (1, 1), (2, 0), (3, 0))]  # fmt: skip


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_passed_over(
    plan: Path, stores: Stores, new_run: Callable[[], str]
) -> None:
    run = new_run()
    alone = [sys.executable, *command(plan, stores.digits, run)]
    whole = subprocess.run(alone, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
                           timeout=60)  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    newest = sorted(Path(run, "checkpoints").iterdir())[-1]
    assert newest.name == "step-00000020-attempt-0001"
    (newest / "__0_0.distcp").unlink()
    again = subprocess.run(alone, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
                           timeout=60)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert f"passed over: {newest}/__0_0.distcp is missing" in again.stderr
    steps = [(line["attempt"], line["step"], line["loss"]) for line in lines(run, "step")]
    assert [step[:2] for step in steps[20:]] == [(2, number) for number in range(11, 21)]
    assert [step[2] for step in steps[20:]] == [step[2] for step in steps[10:20]]


def test_a_bad_plan_ends_with_its_exit_code(tmp_path: Path, stores: Stores) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(DIGITS.replace("global_batch", "gobal_batch"))
    done = subprocess.run(
        [sys.executable, *command(path, stores.digits, str(tmp_path / "run"))],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 2
    assert "gobal_batch" in done.stderr
    assert "Traceback" not in done.stderr
