"""A node that sees another storage than the head does: found before a run begins, and by doctor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.axis_command import ROOT, Axis
from tests.token_cluster import TokenCluster, token_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

DOCTOR_SECONDS = 20.0


def _can_hide() -> bool:
    """Whether a process can be given a view of the file system of its own."""
    command = ["unshare", "-m", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False).returncode == 0


pytestmark.append(
    pytest.mark.skipif(not _can_hide(), reason="unshare -m needs root, and is refused here")
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "runs"


@pytest.fixture(scope="module")
def cluster(storage: Path) -> Iterator[TokenCluster]:
    """A head, and a node on which another file system lies over the storage."""
    storage.mkdir()
    hidden = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{storage}" && exec "$@"', "sh")
    with token_cluster(1) as cluster, cluster.node(*hidden):
        yield cluster


@pytest.fixture
def workstation(axis: Axis, cluster: TokenCluster) -> Axis:
    axis.environment.update(cluster.client, PYTHONPATH=str(ROOT))
    axis.environment.pop("RAY_ADDRESS", None)
    return axis


def test_a_run_is_refused_before_it_begins(
    workstation: Axis, cluster: TokenCluster, storage: Path
) -> None:
    refused = workstation(
        "run", "configs/digits.yaml", "--address", cluster.gcs, f"storage={storage}",
        "inference=null", "training.steps=5",
    )  # fmt: skip
    assert refused.code == 3, refused
    assert "1 of 1 nodes cannot use the storage" in refused.err
    assert "the driver's file is not there" in refused.err
    assert "works: storage=<a folder that is mounted on all nodes>" in refused.err
    assert list(storage.iterdir()) == [], "nothing of it is left"


def test_doctor_finds_it_and_the_way_between_nodes(
    workstation: Axis, cluster: TokenCluster, storage: Path
) -> None:
    began = time.monotonic()
    told = workstation(
        "doctor", "configs/digits.yaml", f"storage={storage}", "--address", cluster.url, "--json"
    )
    seconds = time.monotonic() - began
    assert told.code == 3, told
    found = [json.loads(line) for line in told.out.splitlines()]
    failed = [each for each in found if each.get("level") == "fail"]
    assert [each["what"] for each in failed] == ["storage"], told
    assert "the driver's file is not there" in failed[0]["text"]
    assert "mounted on all nodes" in failed[0]["fix"]
    network = [each["text"] for each in found if each.get("what") == "network"]
    assert len(network) == 1
    assert "gloo between 2 nodes: all-reduce in" in network[0]
    assert sum(each.get("what") == "clock" for each in found) == 2
    assert found[-1]["kind"] == "end"
    assert found[-1]["fail"] == 1
    assert seconds < DOCTOR_SECONDS or os.getloadavg()[0] > 3, f"took {seconds:.1f} s"


def test_doctor_tells_a_wrong_token_from_no_cluster(
    workstation: Axis, cluster: TokenCluster, free_port: int
) -> None:
    """Both ways in, in less than three seconds; Ray alone takes twenty for the second."""
    workstation.environment["RAY_AUTH_TOKEN"] = "wrong-one"
    for address, said in (
        (cluster.url, "does not let you in (403)"),
        (cluster.gcs, "does not let this driver in: the token in RAY_AUTH_TOKEN is not its own"),
        (f"127.0.0.1:{free_port}", "no Ray cluster answers"),
    ):
        began = time.monotonic()
        told = workstation("doctor", "--address", address)
        seconds = time.monotonic() - began
        assert told.code == 3, told
        assert said in told.out, told
        assert "wrong-one" not in told.out + told.err
        assert seconds < 3 or os.getloadavg()[0] > 2, f"took {seconds:.1f} s"
