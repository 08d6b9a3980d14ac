"""Two hosts on this machine, each a network namespace, with a switch between them.

Each host has one interface, ``eth0``; the links end at ports of a bridge in a namespace of its own.
Unplugging a port drops all packets without a word to either side, as a network partition does;
slowing one limits what passes through it in both directions.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.axis_command import MARK, Axis, left_behind

PORT = 6399
_READY_SECONDS = 60.0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


def why_not() -> str | None:
    """What this machine lacks for namespaces; ``None`` when nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (package iproute2)"
    probe = f"axis-probe-{uuid.uuid4().hex[:6]}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made here: {error.stderr.strip()}"
    return None


class Host:
    """One host: its address, and how a command is run on it."""

    def __init__(self, lab: str, number: int) -> None:
        self.namespace = f"{lab}-{number}"
        self.address = f"10.77.0.{number}"
        self._switch, self._port = f"{lab}-sw", f"port{number}"

    @property
    def prefix(self) -> list[str]:
        """Put before a command, it runs there."""
        return ["ip", "netns", "exec", self.namespace]

    def attach(self) -> None:
        """Make the host, its interface and the cable to the switch."""
        inside = ("-n", self.namespace)
        _ip("netns", "add", self.namespace)
        _ip("link", "add", "eth0", "netns", self.namespace, "type", "veth",
            "peer", "name", self._port, "netns", self._switch)  # fmt: skip
        _ip(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip(*inside, "route", "add", "default", "dev", "eth0")
        _ip("-n", self._switch, "link", "set", self._port, "up")
        self.plug()

    def plug(self) -> None:
        """Let packets pass."""
        _ip("-n", self._switch, "link", "set", self._port, "master", "bridge")

    def unplug(self) -> None:
        """Drop every packet from now on; neither side is told."""
        _ip("-n", self._switch, "link", "set", self._port, "nomaster")

    def slow_down(self, rate: str) -> None:
        """Let no more than ``rate`` pass, such as ``10mbit``, to and from this host."""
        for namespace, device in ((self._switch, self._port), (self.namespace, "eth0")):
            words = ["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf"]
            words += ["rate", rate, "burst", "32kbit", "latency", "400ms"]
            subprocess.run(words, check=True, capture_output=True, timeout=20)


class Lab:
    """The head and a worker; ``environment`` is what a driver needs beside its own."""

    def __init__(self, name: str, mark: str, folder: Path) -> None:
        self._name, self._mark, self._folder = name, mark, folder
        self.head, self.worker = Host(name, 1), Host(name, 2)
        self.hosts = (self.head, self.worker)
        self.address = f"{self.head.address}:{PORT}"
        self.environment = {
            "GLOO_SOCKET_IFNAME": "eth0",
            "RAY_AUTH_MODE": "disabled",  # nobody else is on this network
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }

    def wire(self) -> None:
        """Make the switch and both hosts."""
        switch = f"{self._name}-sw"
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in self.hosts:
            host.attach()

    def start(self, host: Host, num_cpus: int, wrapped_in: Sequence[str] = ()) -> None:
        """Start Ray on a host, and wait until its node is up; ``wrapped_in`` is a command that runs
        a command, such as ``faketime -f +3600s``."""
        where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        if host is not self.head:
            where = [f"--address={self.address}"]
        ray_start = [sys.executable, "-m", "ray.scripts.scripts", "start", *where]
        words = [*host.prefix, *wrapped_in, *ray_start, f"--node-ip-address={host.address}"]
        words += [f"--num-cpus={num_cpus}", "--object-store-memory=100000000"]
        if host is self.head:
            words.append(f"--temp-dir={self._folder}")
        done = subprocess.run(
            words, env=self._environment(), timeout=_READY_SECONDS,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def node_id(self, host: Host) -> str:
        """What Ray calls the host."""
        found = "next(n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == sys.argv[2])"
        code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); "
        words = [*self.head.prefix, sys.executable, "-c", f"{code}print({found})"]
        done = subprocess.run(
            [*words, self.address, host.address], env=self._environment(), check=True,
            capture_output=True, text=True, timeout=_READY_SECONDS,
        )  # fmt: skip
        return done.stdout.split()[-1]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, MARK: self._mark}

    def tear_down(self) -> None:
        """End every process of the hosts, and take the namespaces down."""
        for process in left_behind(self._mark, patience_seconds=0):
            with suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        for name in (*(host.namespace for host in self.hosts), f"{self._name}-sw"):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)
        assert not left_behind(self._mark, patience_seconds=10)


@contextmanager
def two_hosts(folder: Path, worker_wrapped_in: Sequence[str] = ()) -> Iterator[Lab]:
    """A Ray cluster of two hosts with one CPU each; skips where namespaces cannot be had.
    ``folder`` is short, for Ray puts sockets into it."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    lab = Lab(f"axis{uuid.uuid4().hex[:4]}", uuid.uuid4().hex, folder)
    try:
        lab.wire()
        lab.start(lab.head, 1)
        lab.start(lab.worker, 1, worker_wrapped_in)
        time.sleep(1.0)
        yield lab
    finally:
        lab.tear_down()


@contextmanager
def commands_on(axis: Axis, worker_wrapped_in: Sequence[str] = ()) -> Iterator[Lab]:
    """Two hosts; what ``axis`` runs, it runs on the head."""
    folder = Path(tempfile.mkdtemp(prefix="axis-", dir="/tmp"))
    try:
        with two_hosts(folder, worker_wrapped_in) as lab:
            axis.prefix = lab.head.prefix
            axis.environment.update(lab.environment)
            yield lab
            for process in axis.started:
                if process.poll() is None:
                    process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
