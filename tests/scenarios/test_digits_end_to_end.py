"""The digits job through the command line: whole, interrupted, resumed, refused, served."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, assert_exactly_once, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

DIGITS = "configs/digits.yaml"
NUM_TRAIN = 1797 - 359
BATCH = 64
STEPS = 300


def test_from_pixels_to_an_answer(axis: Axis, free_port: int) -> None:
    storage = f"storage={axis.storage}"
    port = f"inference.port={free_port}"
    more = (f"training.steps={STEPS}", "training.log_samples=true")
    done = axis("run", DIGITS, storage, port, *more, "--json")
    assert done.code == 0, done
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["exit_code"] == 0
    assert {line["kind"] for line in lines} >= {"phase", "progress", "step", "evaluation", "end"}

    best = max(e["metrics"]["val_accuracy"] for e in lines if e["kind"] == "evaluation")
    assert best > 0.95
    answered = axis.events("digits", "example-answered")
    assert answered[0]["answer"]["digit"] == 0, answered
    promoted = answered[0]["checkpoint"]
    assert (axis.storage / "digits" / "checkpoints" / promoted / "manifest.json").is_file()

    report = (axis.storage / "digits" / "report.md").read_text()
    assert promoted in report
    assert "curl" in report
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, STEPS, BATCH)

    status = axis("status", str(axis.storage / "digits"), "--json")
    view = json.loads(status.out)
    assert (view["status"], view["step"], view["steps"]) == ("done", STEPS, STEPS)
    listed = json.loads(axis("ls", "--storage", str(axis.storage), "--json").out)
    assert [run["name"] for run in listed] == ["digits"]
    assert "digits" in axis("ls", "--storage", str(axis.storage)).out
    logs = axis("logs", "digits", "--storage", str(axis.storage))
    assert logs.code == 0


def test_an_interrupted_run_resumes_with_another_number_of_workers(axis: Axis) -> None:
    """Ctrl-C, then the same plan on one worker: every sample once, the same loss curve."""
    common = (f"storage={axis.storage}", "inference=null", "training.log_samples=true")
    first = axis.start("run", DIGITS, *common, "training.steps=4000")
    axis.await_step("digits", 60)

    began = time.monotonic()
    second = axis("run", DIGITS, *common, "training.steps=4000")
    assert second.code == 3, second
    assert time.monotonic() - began < 45
    assert f"pid {first.pid}" in second.err
    assert "Traceback" not in second.err

    os.kill(first.pid, signal.SIGINT)
    stopped = axis.finish(first)
    assert stopped.code == 130, stopped
    assert "resume" in stopped.out

    reached = axis.events("digits", "checkpoint-committed")[-1]["checkpoint"]["step"]
    assert 60 <= reached < 4000
    steps = reached + 50
    resumed = axis("run", DIGITS, *common, f"training.steps={steps}", "training.workers=1")
    assert resumed.code == 0, resumed
    assert_exactly_once(axis.computed_ids("digits"), NUM_TRAIN, steps, BATCH)
    attempts = {r["attempt"] for r in axis.metrics("digits") if r["kind"] == "step"}
    assert attempts == {1, 2}
    _assert_same_order_as_one_worker(axis, steps)


def _assert_same_order_as_one_worker(axis: Axis, steps: int) -> None:
    """The order of samples is the pure function of the seed that the store defines."""
    from orchestrator.feed.cursor import Order

    order = Order(seed=0, num_samples=1797, holdout=0.2)
    expected = order.train_ids(0, steps * BATCH)
    ids = axis.computed_ids("digits")
    stream = [i for step in range(1, steps + 1) for i in ids[step]]
    assert stream == [int(i) for i in expected]


@pytest.mark.slow
def test_stop_from_elsewhere_and_start_anew(axis: Axis) -> None:
    common = (f"storage={axis.storage}", "inference=null", "training.steps=4000")
    running = axis.start("run", DIGITS, *common)
    axis.await_step("digits", 5)
    stopped = axis("stop", "digits", "--storage", str(axis.storage))
    assert stopped.code == 0, stopped
    ended = axis.finish(running)
    assert ended.code == 6, ended
    view = _status(axis)
    assert view["status"] == "interrupted"
    assert view["committed_step"] > 0

    anew = axis("run", DIGITS, *common[:2], "training.steps=3", "--fresh")
    assert anew.code == 0, anew
    aside = [path.name for path in axis.storage.iterdir() if ".aside-" in path.name]
    assert len(aside) == 1
    assert aside[0] in anew.err
    assert list((axis.storage / aside[0] / "checkpoints").iterdir())
    assert _status(axis)["step"] == 3


def _status(axis: Axis) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(axis("status", str(axis.storage / "digits"), "--json").out)
    return view


@pytest.mark.slow
def test_keep_serving_answers_until_it_is_interrupted(axis: Axis, free_port: int) -> None:
    import httpx

    running = axis.start(
        "run",
        DIGITS,
        f"storage={axis.storage}",
        f"inference.port={free_port}",
        "inference.promote.when=null",
        "training.steps=20",
        "--keep-serving",
    )
    url = f"http://127.0.0.1:{free_port}/digits"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(ready, PATIENCE_SECONDS, "the application to be ready")
    health = httpx.get(f"http://127.0.0.1:{free_port}/healthz", timeout=10)
    assert health.json() == {"ready": True, "applications": {"digits": "RUNNING"}}
    answer = httpx.post(f"{url}/predict", json={"pixels": [0] * 64}, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["x-axis-checkpoint"] == "step-00000020-attempt-0001"
    assert set(answer.json()) >= {"checkpoint", "answer"}
    bad = httpx.post(f"{url}/predict", json={"pixels": "no"}, timeout=20)
    assert bad.status_code == 400
    assert "pixels" in bad.json()["error"]
    assert httpx.post(f"{url}/", content=b"{", timeout=20).status_code == 400
    wait_until(
        lambda: bool(axis.events("digits", "deployed")), PATIENCE_SECONDS, "the driver to know it"
    )
    os.kill(running.pid, signal.SIGINT)
    ended = axis.finish(running)
    assert ended.code == 0, ended
    assert not ready()


def test_a_failing_job_shows_its_own_traceback_once(axis: Axis, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "broken.py").write_text(
        "from jobs.digits import Digits\n\n\n"
        "class Broken(Digits):\n"
        "    def loss(self, model, batch):\n"
        "        raise RuntimeError('the loss is lost')\n"
    )
    axis.environment["PYTHONPATH"] = str(axis.cwd)
    plan = (axis.cwd / DIGITS).read_text().replace("jobs.digits:Digits", "broken:Broken")
    (project / "plan.yaml").write_text(plan)
    axis.cwd = project
    failed = axis("run", "plan.yaml", f"storage={axis.storage}", "inference=null")
    assert failed.code == 1, failed
    assert failed.err.count("RuntimeError: the loss is lost") == 1, failed
    assert "broken.py" in failed.err
    assert "raylet" not in failed.err
