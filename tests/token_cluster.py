"""A Ray cluster as ``ray start --head`` makes it, with a dashboard and token authentication.

Several of them run beside one another on this machine, each with ports and files of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.axis_command import MARK, ROOT

START_SECONDS = 120.0


@dataclass
class TokenCluster:
    """``url`` is the Jobs API's, ``gcs`` what ``ray.init`` takes, ``metrics`` is for Prometheus.

    Everything that the cluster writes, its logs too, lies below ``folder``.
    """

    url: str
    gcs: str
    token: str = field(repr=False)
    token_path: Path
    process: subprocess.Popen[bytes]
    metrics: str
    folder: Path

    @property
    def client(self) -> dict[str, str]:
        """What a workstation sets to be let in."""
        return {"RAY_AUTH_TOKEN_PATH": str(self.token_path)}

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP request carries to be let in."""
        return {"Authorization": f"Bearer {self.token}"}

    def processes(self) -> list[psutil.Process]:
        """Every process of the cluster that is alive."""
        return _family(self.process)

    @contextmanager
    def node(self, *inside: str, num_cpus: int = 1) -> Iterator[subprocess.Popen[bytes]]:
        """One more node; ``inside`` is what its command runs in, such as ``unshare``."""
        agent, agent_grpc, metrics = _free_ports(3)
        command = [
            *inside, sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
            f"--address={self.gcs}", f"--num-cpus={num_cpus}", "--object-store-memory=100000000",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}",
        ]  # fmt: skip
        out = self.folder / f"node-{agent}"
        process = subprocess.Popen(
            command, cwd=self.folder, env=psutil.Process(self.process.pid).environ(),
            stdout=out.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        before = self.num_nodes()
        try:
            deadline = time.monotonic() + START_SECONDS
            while self.num_nodes() <= before:
                assert process.poll() is None, out.read_text()
                assert time.monotonic() < deadline, f"not up:\n{out.read_text()}"
                time.sleep(0.3)
            yield process
        finally:
            _end(process)

    def num_nodes(self) -> int:
        """How many nodes are alive."""
        answer = httpx.get(f"{self.url}/api/v0/nodes", headers=self.headers, timeout=10)
        rows = answer.json()["data"]["result"]["result"]
        return sum(row["state"] == "ALIVE" for row in rows)

    def kill(self) -> list[psutil.Process]:
        """The machine is gone at once, as at a power cut; returns what went with it."""
        victims = self.processes()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=20)
        self.process.wait(timeout=20)
        return victims


@contextmanager
def token_cluster(
    num_cpus: int = 2, environment: Mapping[str, str] | None = None, *more: str
) -> Iterator[TokenCluster]:
    """A head that computes; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="axt"))  # short: sockets have long names
    token, token_path = secrets.token_hex(16), folder / "token"
    token_path.touch(mode=0o600)
    token_path.write_text(token)
    gcs, dashboard, agent, agent_grpc, metrics, client = _free_ports(6)
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={num_cpus}",
        "--include-dashboard=true", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}",
        f"--temp-dir={folder / 'ray'}", "--object-store-memory=100000000", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={
            **own,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_path),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            MARK: os.environ.get(MARK, ""),
            **(environment or {}),
        },
        stdout=(folder / "out").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    cluster = TokenCluster(
        url=f"http://127.0.0.1:{dashboard}",
        gcs=f"127.0.0.1:{gcs}",
        token=token,
        token_path=token_path,
        process=process,
        metrics=f"http://127.0.0.1:{metrics}/metrics",
        folder=folder,
    )
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(_end, cluster.process)
        _await_up(cluster, folder / "out")
        yield cluster


def _await_up(cluster: TokenCluster, output: Path) -> None:
    """The API answers, and knows of the node."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(httpx.HTTPError):
            url = f"{cluster.url}/api/v0/nodes"
            answer = httpx.get(url, headers=cluster.headers, timeout=10)
            if answer.status_code == 200 and answer.json()["data"]["result"]["total"]:
                return
        assert cluster.process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, f"not up:\n{output.read_text()}"
        time.sleep(0.3)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, as Ctrl-C does; whatever is left after that is killed."""
    before = _family(process)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    for each in before:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(before, timeout=20)
    process.wait(timeout=20)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
