"""What the manifests tell Ray to do, done by a real Ray: ending a pod, serving a promoted model."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.render.cluster import cluster_spec
from orchestrator.render.kinds import main_object
from orchestrator.render.kubernetes import render
from orchestrator.render.profile import Profile
from orchestrator.render.yaml_text import plain
from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until
from tests.render.kubernetes_schemas import ROOT
from tests.render.plans import plan_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


class Pods:
    """Ray's containers as KubeRay starts them: a shell that becomes ``ray start --block``."""

    def __init__(self, axis: Axis, folder: Path, shape: str, kind: Any) -> None:
        self.axis, self.folder = axis, folder
        self.rendered = render(plan_of(shape), Profile(), kind)
        self.spec = plain(cluster_spec(self.rendered.setting))
        self.port, self.dashboard, self.client, self.agent = free_ports(4)
        self.address = f"127.0.0.1:{self.port}"
        self.session = Path("/tmp") / f"axis-pods-{os.getpid()}-{self.port}"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.token = token.read_text()
        self.environment = {
            **axis.environment,
            "PATH": f"{Path(sys.executable).parent}:{axis.environment['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",  # what authOptions has KubeRay set
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",  # of the head; workers have their own
            "RAY_AUTH_TOKEN_PATH": str(token),
            "AXIS_SERVE_TOKEN": secrets.token_hex(32),  # from the Secret of the plan
        }

    def start(self, group: dict[str, Any], *options: str) -> subprocess.Popen[str]:
        (container,) = group["template"]["spec"]["containers"]
        env = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        env.pop("HOME")  # of the image
        parameters = {**group["rayStartParams"], "object-store-memory": "100000000"}
        words = [f"--{name}={value}" for name, value in parameters.items()]
        offered = {**group.get("resources", {})}
        if "CPU" in offered:
            words.append(f"--num-cpus={offered['CPU']}")
        command = shlex.join(["ray", "start", *words, *options, "--block"])
        process = subprocess.Popen(
            ["/bin/bash", "-c", "--", f"ulimit -n 1024; {command}"],
            cwd=ROOT,
            env={**self.environment, **env},
            stdout=(self.folder / f"ray-{len(self.axis.started)}.log").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.axis.started.append(process)
        return process

    def start_head(self) -> subprocess.Popen[str]:
        head = self.start(
            self.spec["headGroupSpec"],
            "--head",
            f"--port={self.port}",
            f"--dashboard-port={self.dashboard}",
            f"--ray-client-server-port={self.client}",
            f"--dashboard-agent-listen-port={self.agent}",
            "--node-ip-address=127.0.0.1",
            f"--temp-dir={self.session}",
        )
        wait_until(self.healthy, PATIENCE_SECONDS, "the head")
        return head

    def start_worker(self) -> subprocess.Popen[str]:
        """A worker pod whose node has joined; started again if it ends before, as kubelet does."""
        wait_until(lambda: self.nodes() > 0, PATIENCE_SECONDS, "the dashboard")
        before = self.nodes()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            worker = self.start(
                self.spec["workerGroupSpecs"][0],
                f"--address={self.address}",
                "--node-ip-address=127.0.0.1",
                "--dashboard-agent-listen-port=0",
            )
            while worker.poll() is None and time.monotonic() < deadline:
                if self.nodes() > before > 0:
                    return worker
                time.sleep(0.2)
        raise AssertionError(f"no worker node joined within {PATIENCE_SECONDS} s")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120
        )

    def healthy(self) -> bool:
        return self.run(RAY, "health-check", "--address", self.address).returncode == 0

    def nodes(self) -> int:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"http://127.0.0.1:{self.dashboard}/nodes?view=summary"
        try:
            summary = httpx.get(url, headers=headers, timeout=10).json()["data"]["summary"]
        except (httpx.HTTPError, KeyError):
            return 0
        return sum(node["raylet"].get("state") == "ALIVE" for node in summary)

    def end(self) -> None:
        for process in reversed(self.axis.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.axis.started):
            process.wait(timeout=100)


@pytest.fixture
def pods(axis: Axis, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pods]:
    shape, kind = request.param
    found = Pods(axis, tmp_path, shape, kind)
    yield found
    found.end()
    shutil.rmtree(found.session, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("pods", [("elastic", "cluster")], indirect=True)
def test_a_pod_that_is_ended_drains_first_and_the_run_goes_on(pods: Pods) -> None:
    pods.start_head()
    workers = [pods.start_worker(), pods.start_worker()]
    axis = pods.axis
    axis.environment = pods.environment
    process = axis.start(
        "run", "configs/digits.yaml", f"storage={axis.storage}", "inference=null",
        "training.workers=[1,2]", "training.resources.cpu=1", "data.tasks=1",
        "training.steps=400", "--address", pods.address,
    )  # fmt: skip
    axis.await_step("digits", 20)
    began = time.monotonic()
    workers[1].send_signal(signal.SIGTERM)  # what kubelet sends to the container
    grace = pods.spec["workerGroupSpecs"][0]["template"]["spec"]["terminationGracePeriodSeconds"]
    workers[1].wait(timeout=grace)
    assert time.monotonic() - began < grace
    done = axis.finish(process)
    assert done.code == 0, done
    assert axis.events("digits", "drain-noticed")
    steps = [record["step"] for record in axis.metrics("digits") if record["kind"] == "step"]
    assert sorted(set(steps)) == list(range(1, 401))


@pytest.mark.slow
@pytest.mark.parametrize("pods", [("serving", "service")], indirect=True)
def test_a_service_serves_what_the_run_promoted(pods: Pods) -> None:
    axis = pods.axis
    done = axis(
        "run", "configs/digits.yaml", f"storage={axis.storage}", "training.steps=60",
        "inference.promote.when=null", f"inference.port={free_ports(1)[0]}",
    )  # fmt: skip
    assert done.code == 0, done
    config = yaml.safe_load(plain(main_object(pods.rendered.setting))["spec"]["serveConfigV2"])
    (port,) = free_ports(1)
    config["http_options"] |= {"port": port, "host": "127.0.0.1"}
    plan = next(iter(yaml.safe_load_all(pods.rendered.texts()["plan.yaml"])))["data"]["plan.yaml"]
    (pods.folder / "plan.yaml").write_text(plan)
    config["applications"][0]["args"] = {
        "plan": str(pods.folder / "plan.yaml"),
        "storage": str(axis.storage),
    }
    pods.start_head()
    pods.start_worker()
    url = f"http://127.0.0.1:{pods.dashboard}/api/serve/applications/"
    assert httpx.put(url, json=config, timeout=30).status_code == 401
    headers = {"Authorization": f"Bearer {pods.token}"}
    put = httpx.put(url, json=config, headers=headers, timeout=30)  # as the operator does
    assert put.status_code == 200, put.text

    def up() -> bool:
        applications = httpx.get(url, headers=headers, timeout=30).json()["applications"]
        states = {name: found["status"] for name, found in applications.items()}
        assert "DEPLOY_FAILED" not in states.values(), json.dumps(applications)[:3000]
        return states == {"digits": "RUNNING"}

    wait_until(up, PATIENCE_SECONDS, "the applications")
    example = pods.rendered.setting.plan.inference.example  # type: ignore[union-attr]
    shown = {"Authorization": f"Bearer {pods.environment['AXIS_SERVE_TOKEN']}"}
    answer = httpx.post(f"http://127.0.0.1:{port}/digits/", json=example, headers=shown, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["step"] == 60
    assert httpx.get(f"http://127.0.0.1:{port}/-/healthz", timeout=60).text == "success"
