"""How do manifests for other places differ from the ones at hand? A base and kustomize overlays.

An overlay is what a profile changes, as JSON patches (RFC 6902) that ``kubectl kustomize``
applies; so there is one place where a profile is said, and no second copy to forget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.errors import PlanError
from orchestrator.render.kubernetes import KUSTOMIZATION, Rendered
from orchestrator.render.yaml_text import Node, Note, document, documents, plain

Objects = Mapping[tuple[str, str], Any]


def tree(base: Rendered, overlays: Mapping[str, Rendered | PlanError]) -> dict[str, str]:
    """All files: ``base/…`` and ``overlays/NAME/…`` for each that can be."""
    found = {f"base/{name}": text for name, text in base.texts().items()}
    for name, other in overlays.items():
        if isinstance(other, Rendered):
            files = overlay(base, other, name)
            found |= {f"overlays/{name}/{file}": text for file, text in files.items()}
    return found


def overlay(base: Rendered, other: Rendered, name: str) -> dict[str, str]:
    """The files of one overlay."""
    before, after = _objects(base), _objects(other)
    patches: list[Node] = []
    files: dict[str, str] = {}
    for key, values in before.items():
        if key not in after:
            patches.append(_deletion(values))
        elif after[key] != values:
            file = f"{key[0]}-{key[1]}.patch.yaml".lower()
            files[file] = document(list(changes(values, after[key])))
            patches.append({"path": file, "target": {"kind": key[0], "name": key[1]}})
    added = [node for key, node in _nodes(other).items() if key not in before]
    if added:
        files["added.yaml"] = documents([document(node) for node in added])
    kustomization: dict[str, Node] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base", *(["added.yaml"] if added else [])],
    }
    if patches:
        kustomization["patches"] = Note(patches, f"What the profile {name} changes.")
    told = f"Apply with `kubectl apply -k .`; the same as `axis render … --profile {name}`"
    return {KUSTOMIZATION: document(kustomization, told), **files}


def changes(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The JSON patch that makes ``after`` of ``before``."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _mapping_changes(before, after, path)
    elif _alike(before, after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changes(one, other, f"{path}/{index}")
    elif _continues(before, after):
        for value in after[len(before) :]:
            yield {"op": "add", "path": f"{path}/-", "value": value}
    elif before != after or type(before) is not type(after):
        yield {"op": "replace", "path": path, "value": after}


def _mapping_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str
) -> Iterator[dict[str, Any]]:
    for key, value in before.items():
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            yield {"op": "remove", "path": place}
        else:
            yield from changes(value, after[key], place)
    for key, value in after.items():
        if key not in before:
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            yield {"op": "add", "path": place, "value": value}


def _alike(before: Any, after: Any) -> bool:
    """Lists whose members are compared one by one; others are replaced whole."""
    lists = isinstance(before, list) and isinstance(after, list)
    return lists and len(before) == len(after) and all(isinstance(each, dict) for each in before)


def _continues(before: Any, after: Any) -> bool:
    """Whether a list only has further members at its end."""
    lists = isinstance(before, list) and isinstance(after, list)
    return lists and len(after) > len(before) and after[: len(before)] == before


def _deletion(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {"apiVersion": values["apiVersion"], "kind": values["kind"]}
    gone = {**names, "metadata": {"name": values["metadata"]["name"]}, "$patch": "delete"}
    return {"patch": document(gone)}


def _objects(rendered: Rendered) -> Objects:
    return {key: plain(node) for key, node in _nodes(rendered).items()}


def _nodes(rendered: Rendered) -> dict[tuple[str, str], Node]:
    nodes: Sequence[Node] = [node for some in rendered.objects.values() for node in some]
    return {(str(node["kind"]), str(node["metadata"]["name"])): node for node in nodes}
