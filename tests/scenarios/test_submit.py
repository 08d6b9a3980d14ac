"""Plans on a cluster with token authentication, submitted from a workstation's own folder."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.axis_command import PATIENCE_SECONDS, ROOT, Axis, assert_exactly_once, wait_until
from tests.token_cluster import TokenCluster, token_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

DIGITS = "configs/digits.yaml"
NUM_TRAIN = 1438
BATCH = 64


@pytest.fixture(scope="module")
def cluster() -> Iterator[TokenCluster]:
    with token_cluster() as cluster:
        yield cluster


@pytest.fixture
def workstation(axis: Axis, tmp_path: Path, cluster: TokenCluster) -> Axis:
    """A folder with the jobs and plans, and nothing else of the repository; the token is known."""
    place = tmp_path / "workstation"
    for name in ("jobs", "configs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    axis.cwd = place
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        axis.environment.pop(name, None)
    axis.environment.update(cluster.client, PYTHONPATH=str(ROOT))
    return axis


def _digits(axis: Axis, *more: str) -> tuple[str, ...]:
    return (
        "submit", DIGITS, f"storage={axis.storage}", "inference=null",
        "training.log_samples=true", *more,
    )  # fmt: skip


@pytest.mark.slow
def test_both_jobs_run_as_if_they_ran_here(workstation: Axis, cluster: TokenCluster) -> None:
    gpt = workstation(
        "submit", "configs/gpt-stdlib.yaml", "--address", cluster.url, "--json",
        f"storage={workstation.storage}", "inference=null", "training.steps=5",
    )  # fmt: skip
    assert gpt.code == 0, gpt
    told = [json.loads(line) for line in gpt.out.splitlines()]
    kinds = [each["kind"] for each in told]
    assert "submitted" in kinds
    assert told[-1] == {
        "kind": "outcome", "submission_id": "axis-gpt-stdlib-0001", "exit_code": 0,
        "message": "done", "status": "SUCCEEDED",
    }  # fmt: skip
    assert [each["exit_code"] for each in told if each["kind"] == "end"] == [0]

    # The address in its other place; a gate that five steps cannot pass: the run's own exit code.
    workstation.environment["RAY_API_SERVER_ADDRESS"] = cluster.url
    gated = workstation("submit", DIGITS, f"storage={workstation.storage}", "training.steps=5")
    assert gated.code == 7, gated
    assert "axis-digits-0001: promotion gate not met (exit code 7)" in gated.err
    assert "train: 5 steps" in gated.out
    assert f"axis submit {DIGITS}" in gated.out, "what it advises can be typed here"
    status = json.loads(workstation("status", "digits", "--address", cluster.url, "--json").out)
    assert (status["status"], status["exit_code"]) == ("gate not met", 7)
    page = httpx.get(f"{cluster.url}/api/jobs/axis-digits-0001", headers=cluster.headers).json()
    assert page["metadata"]["axis_run_directory"] == f"{workstation.storage}/digits"


@pytest.mark.slow
def test_a_run_is_stopped_from_afar_and_resumed_on_another_cluster(
    workstation: Axis, cluster: TokenCluster
) -> None:
    """Nothing but storage is shared; the old attempt's checkpoint is the new one's beginning."""
    more = ("--address", cluster.url, "--detach", "training.steps=100000")
    sent = workstation(*_digits(workstation, *more))
    assert sent.code == 0, sent
    assert "axis stop axis-digits-" in sent.err
    name = sent.err.split("submitted ")[1].split(";")[0]
    wait_until(lambda: _step(workstation) >= 30, PATIENCE_SECONDS, "thirty steps")

    again = workstation(*_digits(workstation, *more))
    assert again.code == 3, "it is going on already"
    assert f"as {name}" in again.err
    going = workstation("status", "digits", "--address", cluster.url)
    assert going.out.startswith("digits: running\n"), going
    wait_until(lambda: _is_measured(cluster), PATIENCE_SECONDS, "Prometheus to be told of it")
    stopped = workstation("stop", "digits", "--address", cluster.url)
    assert stopped.code == 0, stopped
    assert "(exit code 6)" in stopped.out
    logs = workstation("logs", name, "--address", cluster.url)
    assert "stopping (sigterm): a last checkpoint is being taken" in logs.out
    kept = [e["checkpoint"]["step"] for e in workstation.events("digits", "checkpoint-committed")]
    steps = kept[-1] + 30

    with token_cluster() as second:
        workstation.environment.update(second.client)
        url = ("--address", second.url)
        done = workstation(*_digits(workstation, *url, f"training.steps={steps}"))
        assert done.code == 0, done
        assert "axis-digits-0002: done (exit code 0)" in done.err, "the attempt of the journal"
    taken = [r for r in workstation.metrics("digits") if r["kind"] == "step"]
    assert min(r["step"] for r in taken if r["attempt"] == 2) == kept[-1] + 1
    assert_exactly_once(workstation.computed_ids("digits"), NUM_TRAIN, steps, BATCH)


@pytest.mark.slow
def test_ray_job_submit_does_it_as_well(
    workstation: Axis, cluster: TokenCluster, tmp_path: Path
) -> None:
    command = [
        str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", cluster.url,
        "--working-dir", ".", "--", "axis", "run", DIGITS, "training.steps=5", "inference=null",
    ]  # fmt: skip
    options = {"cwd": workstation.cwd, "capture_output": True, "text": True, "timeout": 300}
    environment = {**workstation.environment, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(  # type: ignore[call-overload]
        [*command, f"storage={workstation.storage}"], env=environment, **options
    )
    assert done.returncode == 0, done
    assert "trained 5 steps" in done.stdout
    lost = subprocess.run(command, env=environment, **options)  # type: ignore[call-overload]
    assert lost.returncode != 0
    assert "temporary copy on one node" in lost.stdout, "a relative storage would be lost"


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("s", 6), ("d", 0)])
def test_ctrl_c_asks_whether_to_detach_or_stop(
    workstation: Axis, cluster: TokenCluster, answer: str, code: int
) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli",
         *_digits(workstation, "--address", cluster.url, "training.steps=100000")],
        cwd=workstation.cwd, env=workstation.environment, stdin=follower, stdout=follower,
        stderr=follower, start_new_session=True,
    )  # fmt: skip
    workstation.started.append(process)  # type: ignore[arg-type]
    os.close(follower)
    seen = b""
    try:
        seen += _read_until(leader, b"train: 1", seen)
        os.kill(process.pid, signal.SIGINT)
        seen += _read_until(leader, b"ontinue?", b"")
        os.write(leader, f"{answer}\n".encode())
        seen += _read_until(leader, None, b"")
        assert process.wait(timeout=PATIENCE_SECONDS) == code, seen.decode(errors="replace")
        if answer == "d":
            assert b"goes on without this terminal" in seen
            assert workstation("stop", "digits", "--address", cluster.url).code == 0
    finally:
        os.close(leader)


def test_what_the_cluster_cannot_hold_is_refused_before_anything_is_sent(
    workstation: Axis, cluster: TokenCluster
) -> None:
    large = workstation(*_digits(workstation, "--address", cluster.url, "training.workers=64"))
    assert large.code == 3, large
    assert "needs 64 × {CPU: 0.5}; 1 node offers 2; short by 30 CPU" in large.err
    lost = workstation("submit", DIGITS, "--address", cluster.url)
    assert lost.code == 2, lost
    assert "temporary copy on one node" in lost.err


def test_what_the_jobs_api_does_not_know_is_said(workstation: Axis, cluster: TokenCluster) -> None:
    for command in ("status", "logs", "stop"):
        unknown = workstation(command, "nobody", "--address", cluster.url)
        assert unknown.code == 3, unknown
        assert "knows no submission of nobody" in unknown.err
    worker = workstation("logs", "digits", "--worker", "0", "--address", cluster.url)
    assert worker.code == 2, worker
    assert "--storage instead of --address" in worker.err


def test_a_wrong_token_is_told_at_once(workstation: Axis, cluster: TokenCluster) -> None:
    workstation.environment["RAY_AUTH_TOKEN"] = "wrong-one"
    for command in (
        _digits(workstation, "--address", cluster.url),
        ("status", "digits", "--address", cluster.url),
    ):
        began = time.monotonic()
        refused = workstation(*command)
        seconds = time.monotonic() - began
        assert refused.code == 3, refused
        assert "does not let you in (403)" in refused.err
        assert "wrong-one" not in refused.out + refused.err
        assert seconds < 3 or os.getloadavg()[0] > 2, f"took {seconds:.1f} s"


def _is_measured(cluster: TokenCluster) -> bool:
    """Whether the figures of the run are where Prometheus reads them, and are its own."""
    lines = httpx.get(cluster.metrics, timeout=10).text.splitlines()
    found = [line for line in lines if line.startswith("ray_axis_") and 'run="digits"' in line]
    steps = [float(line.rpartition(" ")[2]) for line in found if line.startswith("ray_axis_step{")]
    phases = [line for line in found if 'phase="training"' in line and line.endswith(" 1.0")]
    return bool(steps) and max(steps) > 0 and bool(phases)


def _step(axis: Axis) -> int:
    steps = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step"]
    return max(steps, default=0)


def _read_until(leader: int, mark: bytes | None, seen: bytes) -> bytes:
    """What a terminal shows, up to ``mark``, or to its end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while mark is None or mark not in seen:
        assert time.monotonic() < deadline, seen.decode(errors="replace")
        try:
            data = os.read(leader, 4096)
        except OSError:  # the other side is closed
            return seen
        if not data:
            return seen
        seen += data
    return seen
