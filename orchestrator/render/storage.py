"""Where do runs lie on a cluster: in a bucket, or on a volume that every pod mounts? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.plan.data import PythonSource
from orchestrator.plan.plan import Plan
from orchestrator.render import names as at
from orchestrator.render.names import Names
from orchestrator.render.profile import Profile
from orchestrator.render.yaml_text import Note


@dataclass(frozen=True)
class Place:
    """The storage of a run as pods see it."""

    storage: str
    """What ``storage`` is for them."""
    claim: str = ""
    """The PersistentVolumeClaim that is mounted; empty for a bucket."""
    rendered: bool = False
    """Whether the claim is one of ours."""


def place_of(plan: Plan, profile: Profile, names: Names) -> Place:
    """A bucket stays as it is; a folder becomes one on the volume."""
    if _is_bucket(plan.storage):
        return Place(plan.storage)
    folder = plan.storage.removeprefix("file://").strip("/").removeprefix("./") or "runs"
    inside = "/".join(part for part in folder.split("/") if part not in ("", ".", "..", "~"))
    claim = profile.volume.claim
    storage = f"{at.VOLUME_PATH}/{inside or 'runs'}"
    return Place(storage, claim or names.claim, not claim)


def reads_bucket(plan: Plan) -> bool:
    """Whether anything lies behind HTTPS: runs, or the corpus."""
    source = plan.data.source
    path = "" if isinstance(source, PythonSource) else source.path
    return _is_bucket(plan.storage) or _is_bucket(path)


def local_source(plan: Plan) -> str:
    """The folder that the corpus is read from, which the image must hold; else empty."""
    source = plan.data.source
    if isinstance(source, PythonSource) or ":" in source.path:
        return ""
    return source.path


def claim_object(place: Place, profile: Profile, names: Names, size: str) -> dict[str, Any]:
    """The PersistentVolumeClaim."""
    volume = profile.volume
    spec: dict[str, Any] = {
        "accessModes": Note(
            [volume.access],
            "Pods on several nodes write to it."
            if volume.access == "ReadWriteMany"
            else "One node alone mounts it: right for a cluster of one node.",
        )
    }
    if volume.storage_class:
        spec["storageClassName"] = volume.storage_class
    spec["resources"] = {"requests": {"storage": size}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": place.claim, "labels": names.shared},
        "spec": spec,
    }


def _is_bucket(text: str) -> bool:
    return "://" in text and not text.startswith("file://")
