"""What a cluster as we ship it lets out: of secrets nothing, to strangers next to nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.axis_command import ROOT, Axis
from tests.token_cluster import TokenCluster, token_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SECRET = "canary-7f3a9c51e0"
SERVE_TOKEN = "canary-of-serve-55d1"

KNOWN_TO_BE_OPEN = {"metrics", "dashboard pages", "serve's own"}
"""What answers without a token; ``docs/security.md`` says why, and what closes it."""

DATA = ("/api/version", "/api/jobs/", "/api/v0/nodes", "/api/packages/gcs/x.zip", "/nodes")
"""What a stranger would like to see of a dashboard or an agent."""

GRPC_METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.RayletDriver/KVList",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.serve.ASGIService/HandleRequest",
)
"""One that changes nothing of each service that a process of Ray may have."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCluster]:
    token = tmp_path_factory.mktemp("secrets") / "serve-token"
    token.touch(mode=0o600)
    token.write_text(f"{SERVE_TOKEN}\n")
    with token_cluster(
        environment={
            "AXIS_CANARY": SECRET,
            "AXIS_SERVE_TOKEN_FILE": str(token),
            "AXIS_LOG_FORMAT": "json",
        }
    ) as c:
        yield c


@pytest.fixture
def workstation(axis: Axis, tmp_path: Path, cluster: TokenCluster) -> Axis:
    place = tmp_path / "workstation"
    for name in ("jobs", "configs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "scenarios" / "telltale.py", place)
    axis.cwd = place
    axis.environment.update(cluster.client, PYTHONPATH=str(ROOT))
    axis.environment.pop("RAY_ADDRESS", None)
    return axis


@pytest.mark.slow
def test_a_secret_is_nowhere_and_strangers_are_refused(
    workstation: Axis, cluster: TokenCluster, free_port: int, tmp_path: Path
) -> None:
    mark = tmp_path / "raised"
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    done = workstation(
        "submit", "configs/digits.yaml", "--address", cluster.url, "--keep-serving",
        f"storage={workstation.storage}", "training.steps=20", "coordination.restarts.user=1",
        "job=telltale:Telltale",
        f"options={{secret: '${{env:AXIS_CANARY}}', digest: {digest}, mark: {mark}}}",
        f"inference.port={free_port}", "inference.promote.when=null",
        f"inference.token=${{file:{_token_file(cluster)}}}",
    )  # fmt: skip
    assert done.code == 0, done
    assert mark.exists(), "the Job told its secret in an exception"
    assert "constructed with ${env:AXIS_CANARY}" in done.out + done.err
    logs = "".join(p.read_text() for p in (workstation.storage / "digits/logs").rglob("*.log"))
    for told in ("printed", "logged", "raised"):
        assert f"{told} ${{env:AXIS_CANARY}}" in logs, "it was told, and concealed"
    _assert_app_wants_its_token(free_port)
    _assert_lines_say_whose_they_are(cluster)

    places = {f"file {path}": path.read_bytes() for path in _files(workstation.storage)}
    places |= {f"log {path}": path.read_bytes() for path in _files(cluster.folder / "ray")}
    places |= {f"api {path}": text for path, text in _api(cluster)}
    places["shown"] = (done.out + done.err).encode()
    assert len(places) > 50
    for secret in (SECRET, SERVE_TOKEN, cluster.token):
        assert [name for name, data in places.items() if secret.encode() in data] == []

    _assert_ports_are_closed(cluster)


def _assert_lines_say_whose_they_are(cluster: TokenCluster) -> None:
    """On their processes' own output, which is what a log collector reads."""
    outputs = [p for p in _files(cluster.folder / "ray") if p.name.startswith("worker-")]
    text = [line for path in outputs for line in path.read_text(errors="replace").splitlines()]
    said = [line for line in text if re.search(r"(printed|logged) \$\{env:AXIS_CANARY\}", line)]
    told = [json.loads(line) for line in said]
    found = {(each["axis"], each["logger"], each["level"]) for each in told}
    assert found == {
        (axis, *way)
        for axis in ("data", "training", "inference")
        for way in (("print", "INFO"), ("telltale", "WARNING"))
    }
    assert {each["run"] for each in told} == {"digits"}
    assert {each["attempt"] for each in told if each["axis"] == "inference"} == {2}
    assert {each["rank"] for each in told if each["axis"] == "training"} == {0, 1}
    assert len({each["rank"] for each in told if each["axis"] == "data"}) > 1
    for axis in ("data", "training", "inference"):
        ways = Counter(each["logger"] for each in told if each["axis"] == axis)
        assert ways["print"] == ways["telltale"], "each is said once, in both ways"


def _assert_app_wants_its_token(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    for path in ("/digits/", "/digits/healthz", "/healthz"):
        assert httpx.get(url + path).status_code == 401, path
        wrong = {"Authorization": "Bearer wrong"}
        assert httpx.get(url + path, headers=wrong).status_code == 403, path
    right = {"Authorization": f"Bearer {SERVE_TOKEN}"}
    answer = httpx.post(f"{url}/digits/", json={"pixels": [0] * 64}, headers=right, timeout=30)
    assert answer.status_code == 200, answer.text
    for error, status in (("ValueError", 400), ("RuntimeError", 500)):
        answer = httpx.post(f"{url}/digits/", json={"raise": error}, headers=right, timeout=30)
        assert answer.status_code == status, answer.text
        assert "${env:AXIS_CANARY}" in answer.text
        assert SECRET not in answer.text


def _assert_ports_are_closed(cluster: TokenCluster) -> None:
    """Every port on which a process of the cluster listens, asked without a token."""
    verdicts = {place: (name, _ask(place)) for place, name in _listeners(cluster).items()}
    table = "\n".join(f"{place} {name}: {said}" for place, (name, said) in verdicts.items())
    kinds = [said for _, said in verdicts.values()]
    assert kinds.count("closed") >= 10, table
    assert set(kinds) == {"closed", *KNOWN_TO_BE_OPEN}, table
    page = (ROOT / "docs" / "security.md").read_text()
    assert all(word in page for word in ("metrics export port", "static pages", "/-/routes"))


def _ask(place: str) -> str:
    """What a stranger is answered: over HTTP, else over gRPC."""
    try:
        front = httpx.get(f"http://{place}/", timeout=5)
    except httpx.HTTPError:
        return _ask_grpc(place)
    if front.text.startswith("# HELP"):
        return "metrics"
    codes = {path: httpx.get(f"http://{place}{path}", timeout=5).status_code for path in DATA}
    if set(codes.values()) <= {401, 403}:
        return "dashboard pages" if front.status_code == 200 else "closed"
    routes = httpx.get(f"http://{place}/-/routes", timeout=5)
    app = httpx.get(f"http://{place}/digits/", timeout=5)
    if routes.status_code == 200 and app.status_code == 401 and set(codes.values()) == {404}:
        return "serve's own"
    return f"OPEN: {front.status_code} {codes}"


def _ask_grpc(place: str) -> str:
    codes = {}
    with grpc.insecure_channel(place) as channel:
        for method in GRPC_METHODS:
            try:
                channel.unary_unary(method)(b"", timeout=5)
                codes[method] = "OK"
            except grpc.RpcError as error:
                codes[method] = error.code().name
    refused = "UNAUTHENTICATED" in codes.values()
    others = set(codes.values()) - {"UNAUTHENTICATED", "UNIMPLEMENTED"}
    return "closed" if refused and not others else f"OPEN: {codes}"


def _listeners(cluster: TokenCluster) -> dict[str, str]:
    found = {}
    for process in cluster.processes():
        with suppress(psutil.NoSuchProcess):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    host = each.laddr.ip.removeprefix("::ffff:")
                    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
                    found[f"{host}:{each.laddr.port}"] = " ".join(process.cmdline())[:90]
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _api(cluster: TokenCluster) -> Iterator[tuple[str, bytes]]:
    paths = ["/api/jobs/", "/api/jobs/axis-digits-0001", "/api/jobs/axis-digits-0001/logs"]
    kinds = ("actors", "tasks", "jobs", "nodes", "workers", "objects", "placement_groups")
    paths += [f"/api/v0/{kind}?detail=1" for kind in (*kinds, "runtime_envs")]
    paths += ["/api/serve/applications/", "/api/train/v2/runs/v1", "/nodes?view=summary"]
    for path in paths:
        yield path, httpx.get(cluster.url + path, headers=cluster.headers, timeout=30).content


def _token_file(cluster: TokenCluster) -> str:
    [head] = [p for p in cluster.processes() if p.pid == cluster.process.pid]
    return head.environ()["AXIS_SERVE_TOKEN_FILE"]
