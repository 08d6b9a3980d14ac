"""Everything in deploy/ is what it says: rendered, accepted, linted, and made of what is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.render.cluster import RAY_VERSION
from orchestrator.render.kuberay_rules import rule_problems
from orchestrator.render.names import PLAN_PATH, WORK_DIRECTORY
from orchestrator.render.pods import POD_SECURITY
from orchestrator.render.profile import BUILT_IN, DEFAULT_IMAGE
from tests.render.kubernetes_schemas import (
    ROOT,
    cel_problems,
    core_problems,
    crd_problems,
    needs_schemas,
    objects_in,
)

pytestmark = pytest.mark.unit

DEPLOY = ROOT / "deploy"
RENDERED = {
    "": ["configs/digits.yaml"],
    "service": ["configs/digits.yaml", "--kind", "service"],
    "cluster": ["configs/gpt-mesh.yaml", "--kind", "cluster"],
    "slurm": ["configs/digits.yaml", "--target", "slurm"],
}
"""A folder of deploy/ → the arguments that it is rendered from, as in the Makefile."""
BY_HAND = {
    "Dockerfile", "Dockerfile.dockerignore", "compose.yaml", "token", "grafana", "prometheus",
}  # fmt: skip
"""What is in deploy/ and not rendered."""

KUSTOMIZATIONS = sorted(
    str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml")
)

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed; it renders kustomizations"
)


def axis(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def tool(name: str) -> str:
    """A linter that comes with the test requirements; skipped with the reason where it does not."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def built(folder: str) -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def keyed(text: str) -> dict[tuple[str, str], Any]:
    return {(v["kind"], v["metadata"]["name"]): v for v in objects_in(text)}


@pytest.mark.parametrize("folder", RENDERED, ids=lambda folder: folder or "job")
def test_deploy_is_what_is_rendered(folder: str, tmp_path: Path) -> None:
    axis("render", *RENDERED[folder], "--output", str(tmp_path))
    fresh = {
        str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()
    }
    there = DEPLOY / folder
    kept = {
        str(path.relative_to(there)): path.read_text()
        for path in there.rglob("*")
        if path.is_file()
        and (folder or path.relative_to(there).parts[0] not in {*BY_HAND, *RENDERED})
    }
    assert kept == fresh, "`make manifests` renders deploy/ again"


def test_the_makefile_renders_all_of_it() -> None:
    lines = (ROOT / "Makefile").read_text().split("manifests:")[1].split("\n\n")[0]
    said = re.findall(r"axis render (.*) --output deploy/?(\S*)", lines)
    assert {folder: shlex.split(words) for words, folder in said} == RENDERED


def test_nothing_else_lies_in_deploy() -> None:
    names = {path.name for path in DEPLOY.iterdir()}
    assert names <= {*BY_HAND, *RENDERED, "base", "overlays"}
    assert set(KUSTOMIZATIONS) == {
        f"{folder}/{place}".lstrip("/")
        for folder in ("", "service", "cluster")
        for place in ("base", *(f"overlays/{name}" for name in BUILT_IN))
    }


@needs_kubectl
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_each_kustomization_is_accepted(folder: str) -> None:
    for values in objects_in(built(folder)):
        assert core_problems(values) == []
        assert rule_problems(values) == []


@needs_kubectl
@needs_schemas
def test_the_crds_accept_each_kustomization(tmp_path: Path) -> None:
    for index, folder in enumerate(KUSTOMIZATIONS):
        (tmp_path / f"{index:02}.yaml").write_text(built(folder))
        for values in objects_in(built(folder)):
            assert cel_problems(values) == []
    assert crd_problems(sorted(tmp_path.iterdir())) == ""


@needs_kubectl
@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("folder", ["", "service", "cluster"], ids=lambda folder: folder or "job")
def test_an_overlay_is_what_its_profile_renders(folder: str, name: str) -> None:
    direct = axis("render", *RENDERED[folder], "--profile", name).stdout
    assert keyed(built(f"{folder}/overlays/{name}".lstrip("/"))) == keyed(direct)


# ------------------------------------------------------------------ the image


def dockerfile() -> list[tuple[str, str]]:
    """The instructions, continued lines joined and comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text())
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in lines]


def final_stage() -> list[tuple[str, str]]:
    found = dockerfile()
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def test_the_dockerfile_is_linted() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_what_the_image_copies_is_in_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()
    shown = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in shown if line.startswith("!")}
    copies = [rest for word, rest in dockerfile() if word == "COPY" and "--from" not in rest]
    assert len(copies) == 5
    for rest in copies:
        *sources, _ = shlex.split(rest)
        for source in sources:
            assert list(ROOT.glob(source)), f"there is no {source}"
            top = source.split("/")[0]
            assert top in let_in, f"{source} is kept from the build by the .dockerignore"
            assert any(name == top or name.startswith(f"{top}/") for name in tracked)


def test_what_is_let_into_the_build_is_copied() -> None:
    shown = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = " ".join(rest for word, rest in dockerfile() if word == "COPY")
    for line in shown:
        if line.startswith("!"):
            assert re.search(rf"(^|\s){re.escape(line[1:])}(/|\s)", copied), line


def test_the_image_is_pinned_small_and_not_root() -> None:
    found = dockerfile()
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    python = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)-slim-\w+", arguments["PYTHON"])
    assert python, "the base image is pinned to a patch release"
    assert {rest.split()[0] for word, rest in found if word == "FROM"} == {"python:${PYTHON}"}
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"torch=={arguments['TORCH']}\n" in constraints
    assert f"ray=={RAY_VERSION}\n" in constraints
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert all("--constraint constraints.txt" in rest for rest in installs)
    last = final_stage()
    assert ("USER", f"{POD_SECURITY['runAsUser']}:{POD_SECURITY['runAsGroup']}") in last
    text = " ".join(rest for _, rest in last)
    assert not re.search(r"gcc|g\+\+|build-essential|pip install", text)


def test_the_image_has_what_the_manifests_count_on() -> None:
    last = final_stage()
    assert ("WORKDIR", WORK_DIRECTORY) in last
    text = "\n".join(rest for _, rest in last)
    assert "wget" in text  # KubeRay's probe of Serve's proxies
    assert f"{WORK_DIRECTORY}/jobs" in text
    assert "--uid 1000 --gid 1000" in text
    assert "/mnt/axis" in text
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"axis:{version[1]}" == DEFAULT_IMAGE
    assert f"-t {DEFAULT_IMAGE} ." in (DEPLOY / "Dockerfile").read_text()
    assert f"-t {DEFAULT_IMAGE}-cuda ." in (DEPLOY / "Dockerfile").read_text()


def test_the_commands_that_the_image_runs_work() -> None:
    runs = [rest for word, rest in final_stage() if word == "RUN"]
    (checked,) = [rest for rest in runs if rest.startswith("axis ")]
    for command in re.split(r"&&", checked.replace("> /dev/null", "")):
        axis(*shlex.split(command)[1:])
    (last,) = [rest for word, rest in final_stage() if word == "CMD"]
    axis(*yaml.safe_load(last)[1:])


def test_both_variants_are_refused_or_installed_as_they_say() -> None:
    """The shell of the build's own ``case``, with pip written down instead of run."""
    (script,) = [rest for word, rest in dockerfile() if word == "RUN" and "case" in rest]
    script = script.replace("/opt/axis/venv/bin/pip", "echo pip")

    def build(**arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "TORCH": "2.13.0", "TORCH_INDEX": "", **arguments}
        return subprocess.run(
            ["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=10
        )

    assert "torch==2.13.0\n" in build(VARIANT="cuda").stdout
    assert "INDEX torch==2.13.0+cpu" in build(VARIANT="cpu", TORCH_INDEX="INDEX").stdout
    assert build(VARIANT="cpu").returncode != 0
    assert "there is no VARIANT tpu" in build(VARIANT="tpu").stderr


# ------------------------------------------------------------------ compose


def compose() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return values


def test_compose_is_three_nodes_that_are_closed() -> None:
    services = compose()["services"]
    assert 1 + services["worker"]["deploy"]["replicas"] == 3
    for service in services.values():
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["secrets"] == ["ray_token"]
        assert DEFAULT_IMAGE in service["image"]
    assert services["head"]["ports"] == ["127.0.0.1:8265:8265"]
    assert "ports" not in services["worker"]


def test_compose_names_only_what_it_has() -> None:
    values = compose()
    for service in values["services"].values():
        assert set(service["secrets"]) <= set(values["secrets"])
        volumes = {volume.split(":")[0] for volume in service["volumes"]}
        assert volumes <= set(values["volumes"])
        assert set(service.get("depends_on", {})) <= set(values["services"])
    token = values["secrets"]["ray_token"]["file"]
    assert token == "${AXIS_TOKEN_FILE:-./token}"
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/token"], cwd=ROOT, capture_output=True, timeout=30
    )
    assert ignored.returncode == 0, "a token must never be committed"


def test_the_commands_in_compose_exist() -> None:
    services = compose()["services"]
    commands = [shlex.split(service["command"]) for service in services.values()]
    commands.append(services["head"]["healthcheck"]["test"][1:])
    for command in commands:
        asked = [each.split("=")[0] for each in command if each.startswith("--")]
        name = command[: 2 if command[0] == "ray" else 1]
        assert_options(name, asked)
    heading = (DEPLOY / "compose.yaml").read_text().split("name:")[0]
    run = re.search(r"axis run (\S+) ", heading)
    assert run
    assert (ROOT / run[1]).is_file()


def assert_options(command: list[str], options: list[str]) -> None:
    """Whether ``ray start`` and its like know these options."""
    from ray.scripts.scripts import cli

    assert command[0] == "ray"
    known = {name for p in cli.commands[command[1]].params for name in (*p.opts, *p.secondary_opts)}
    assert set(options) <= known, f"{' '.join(command)} has no {set(options) - known}"


def test_paths_in_manifests_are_the_images() -> None:
    text = (DEPLOY / "base" / "rayjob.yaml").read_text()
    assert f"workingDir: {WORK_DIRECTORY}" in text
    assert PLAN_PATH in text
