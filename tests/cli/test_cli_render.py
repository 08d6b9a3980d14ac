"""``axis render`` as a person meets it: files, warnings, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.axis_command import Axis

pytestmark = pytest.mark.unit


def test_prints_a_stream_that_can_be_applied(axis: Axis) -> None:
    done = axis("render", "configs/digits.yaml", "--target", "kuberay")
    assert done.code == 0, done
    kinds = [values["kind"] for values in yaml.safe_load_all(done.out)]
    assert kinds[-1] == "RayJob"
    assert {"ConfigMap", "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim"} <= set(kinds)
    assert "RayJob: carries out the plan digits with 2 workers, and ends." in done.out
    assert "warning: the Secret digits-secrets must hold AXIS_SERVE_TOKEN" in done.err


def test_writes_a_base_and_an_overlay_for_each_profile(axis: Axis, tmp_path: Path) -> None:
    done = axis("render", "configs/gpt-mesh.yaml", "training.steps=5", "-o", str(tmp_path / "out"))
    assert done.code == 0, done
    written = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "out").rglob("*.yaml"))
    assert f"wrote {len(written)} files" in done.out
    for name in ("kind", "gke", "eks", "spot"):
        assert f"out/overlays/{name}/kustomization.yaml" in written
    plan = yaml.safe_load_all((tmp_path / "out/base/plan.yaml").read_text())
    assert yaml.safe_load(next(plan)["data"]["plan.yaml"])["training"]["steps"] == 5


def test_an_overlay_that_cannot_be_is_left_out_and_said(axis: Axis, tmp_path: Path) -> None:
    gpus = "training.resources={cpu: 8, gpu: 1}"
    done = axis("render", "configs/gpt-stdlib.yaml", gpus, "-o", str(tmp_path / "out"))
    assert done.code == 0, done
    assert not (tmp_path / "out/overlays/kind").exists()
    assert "warning: no overlay kind: training.resources.gpu: " in done.err
    assert "needs 1 GPU; a node has no GPUs" in done.err
    main = (tmp_path / "out/base/rayjob.yaml").read_text()
    assert "image: axis:0.1.0-cuda" in main


def test_an_image_of_ones_own(axis: Axis) -> None:
    done = axis(
        "render", "configs/digits.yaml", "--image", "registry.example/team/axis:7", "--json"
    )
    shown = json.loads(done.out)
    assert shown["kind"] == "render"
    (text,) = shown["files"].values()
    images = {line.strip() for line in text.splitlines() if "image:" in line}
    assert images == {"image: registry.example/team/axis:7"}
    assert "--image registry.example/team/axis:7" in text.replace("\n# ", " ")  # a wrapped comment


def test_a_profile_file_of_ones_own(axis: Axis, tmp_path: Path) -> None:
    own = tmp_path / "ours.yaml"
    own.write_text("namespace: research\nvolume: {claim: team-runs}\nhead_memory: 16GiB\n")
    done = axis("render", "configs/digits.yaml", "--profile", "gke", "--profile", str(own))
    assert done.code == 0, done
    objects = list(yaml.safe_load_all(done.out))
    assert {values["metadata"]["namespace"] for values in objects} == {"research"}
    assert "PersistentVolumeClaim" not in {values["kind"] for values in objects}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--target", "nomad"], 2, "there is no nomad"),
        (["--kind", "daemon"], 2, "works: job, service or cluster"),
        (["--profile", "knd"], 2, "works: kind"),
        (["--profile", "./no.yaml"], 2, "No such file"),
        (["training.resources.cpu=9", "--profile", "kind"], 2, "needs 9 CPU; a node has 4"),
        (["name=a-name-that-is-rather-too-long-for-any-kubernetes-object"], 2, "at most 47 fit"),
        (["storage=s3://key:secret@bucket/x"], 2, "a secret is written out"),
        (["inference=null", "--kind", "service"], 2, "a service serves nothing else"),
    ],
    ids=lambda value: "-".join(value)[:24] if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused(axis: Axis, arguments: list[str], code: int, said: str) -> None:
    done = axis("render", "configs/digits.yaml", *arguments)
    assert done.code == code, done
    assert said in done.err
    assert "works: " in done.err or "No such file" in done.err
    assert "Traceback" not in done.err


def test_a_refusal_says_where_in_the_plan(axis: Axis) -> None:
    done = axis(
        "render", "configs/gpt-stdlib.yaml", "training.resources.gpu=1", "--profile", "kind"
    )
    assert "training.resources.gpu  (command line: training.resources.gpu=1)" in done.err, done


def test_a_folder_that_cannot_be_written(axis: Axis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = axis("render", "configs/digits.yaml", "-o", str(tmp_path / "file"))
    assert done.code == 2, done
    assert "cannot be written" in done.err
