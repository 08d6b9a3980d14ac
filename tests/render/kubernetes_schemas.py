"""What an API server would say of manifests, without one: schemas, CEL rules, strict fields."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import celpy.adapter
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "crds"
KUBERNETES = ("1.32", "1.37")
OWN_GROUPS = ("ray.io/", "kueue.x-k8s.io/", "scheduling.volcano.sh/")

needs_schemas = pytest.mark.skipif(
    not (SHARED / "validate_crd.py").exists(),
    reason=f"the CRDs of KubeRay are not beside the checkout ({SHARED})",
)


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects of a stream of manifests."""
    return [values for values in yaml.load_all(text, Loader=yaml.CSafeLoader) if values]


def core_problems(values: dict[str, Any]) -> list[str]:
    """What Kubernetes itself would refuse: unknown fields, wrong types, missing ones."""
    if values["apiVersion"].startswith(OWN_GROUPS):
        return []
    found = []
    for version in KUBERNETES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kubernetes_validate.validate(values, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {error}")
    return found


def crd_problems(paths: Sequence[Path]) -> str:
    """What the CRDs' schemas refuse of the manifests in files; empty if nothing."""
    folders = ",".join(str(folder) for folder in sorted(SHARED.iterdir()) if folder.is_dir())
    checked = subprocess.run(
        [sys.executable, str(SHARED / "validate_crd.py"), folders, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = checked.stdout.splitlines()
    verdicts = [line for line in lines if line.startswith(("OK", "FAIL"))]
    assert len(verdicts) >= len(paths), checked.stdout + checked.stderr
    failed = [line for line in verdicts if line.startswith("FAIL")]
    assert bool(failed) == bool(checked.returncode)
    return "\n".join(failed)


def cel_problems(values: dict[str, Any]) -> list[str]:
    """The CEL rules of the CRD of an object that do not hold."""
    schema = _schemas().get((values["apiVersion"], values["kind"]))
    return list(_broken(schema, values, "$")) if schema else []


@cache
def _schemas() -> dict[tuple[str, str], Any]:
    found = {}
    for path in sorted(SHARED.glob("*/*.yaml")):
        for crd in objects_in(path.read_text()):
            for version in crd["spec"]["versions"]:
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                found[key] = version["schema"]["openAPIV3Schema"]
    return found


def _broken(schema: Any, value: Any, where: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        # A rule about a change has nothing to say of an object that is new.
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{where}: {rule['rule']}"
    if isinstance(value, dict):
        for key, each in value.items():
            inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(inner, dict):
                yield from _broken(inner, each, f"{where}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _broken(schema.get("items", {}), each, f"{where}[{index}]")


def _holds(rule: str, value: Any) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule))
    return bool(program.evaluate({"self": celpy.adapter.json_to_cel(value)}))
