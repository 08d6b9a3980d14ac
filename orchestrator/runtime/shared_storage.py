"""Do all nodes that a run may use see the same storage, and the same version of this project?

A folder that only one machine has is the commonest reason why a run works on a laptop and loses its
checkpoints on a cluster. So the driver writes a file, each node reads it and writes one of its
own, and the driver looks whether it sees them all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import ray

from orchestrator import __version__
from orchestrator.coordinator.gang import gang
from orchestrator.coordinator.node import Node
from orchestrator.coordinator.preflight import rooms_for
from orchestrator.errors import InfeasibleError, StorageError
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.runtime.cluster import live_nodes
from orchestrator.runtime.everywhere import Answer, ask_nodes
from orchestrator.runtime.internals.state import HEAD_NODE_RESOURCE
from orchestrator.storage import Storage
from orchestrator.storage.durable import temporary_name

NODE_SECONDS = 30.0
_CALL = b"axis: is this the same folder?"


@dataclass(frozen=True)
class Sight:
    """What one node found: its version of this project, and why storage is of no use there."""

    version: str
    trouble: str = ""


def check_nodes(plan: Plan, base: Storage) -> list[str]:
    """Ask every node that the plan's gang may lie on.

    Raises ``InfeasibleError`` where one cannot use the storage, sees another folder under its
    name, or has another version of this project. Returns a line for each node that did not answer:
    whether it can be used is not known.
    """
    own = ray.get_runtime_context().get_node_id()  # the driver has looked for itself
    nodes = [node for node in relevant_nodes(plan, live_nodes(), _heads()) if node != own]
    if not nodes:
        return []
    call = temporary_name("call")
    base.write_atomic(call, _CALL)
    replies = {node: f"{call}-{node[:12]}" for node in nodes}
    try:
        answers = ask_nodes(nodes, _look, base.uri, call, replies, timeout_seconds=NODE_SECONDS)
        unseen = {node for node, name in replies.items() if not base.exists(name)}
    finally:
        for name in (call, *replies.values()):
            with suppress(StorageError):
                if base.exists(name):
                    base.delete(name)
    wrong = faults(answers, unseen, base.name)
    if wrong:
        raise InfeasibleError("\n".join(wrong))
    return [f"node {each.place} {each.error}" for each in answers if each.told is None]


def relevant_nodes(plan: Plan, nodes: Sequence[Node], heads: Collection[str]) -> list[str]:
    """The nodes that can hold a bundle of the plan's largest gang, and the head: the coordinator
    lives there."""
    wanted = gang(plan, max(legal_workers(plan)), nodes=nodes)
    selectors = wanted.selectors or ({},) * len(wanted.bundles)
    kinds = {
        (tuple(sorted(bundle.items())), tuple(sorted(selector.items())))
        for bundle, selector in zip(wanted.bundles, selectors, strict=True)
    }
    rooms = [rooms_for(dict(bundle), nodes, dict(selector)) for bundle, selector in kinds]
    return [
        node.id
        for index, node in enumerate(nodes)
        if node.id in heads or any(each[index] for each in rooms)
    ]


def faults(answers: Sequence[Answer[Sight]], unseen: set[str], storage: str) -> list[str]:
    """What is wrong with which node, and what would work; empty where nothing is."""
    troubled, others, importless = [], [], []
    for each in answers:
        if each.told is None:
            if "ModuleNotFoundError" in each.error:
                importless.append(f"  node {each.place}: {each.error}")
            continue
        why = each.told.trouble
        if not why and each.node in unseen:
            why = "what it writes there is not seen by the driver: it is another folder"
        if why:
            troubled.append(f"  node {each.place}: {why}")
        if each.told.version != __version__:
            others.append(f"  node {each.place}: axis-orchestrator {each.told.version}")
    lines = []
    if importless:
        lines += ["nodes cannot import axis-orchestrator:", *importless]
        lines.append(f"  works: one image with axis-orchestrator {__version__} for all nodes")
    if others:
        lines += [f"nodes have another version than the driver's {__version__}:", *others]
        lines.append("  works: the same image for all nodes")
    if troubled:
        num_asked = len(answers)
        head = f"{len(troubled)} of {num_asked} nodes cannot use the storage {storage} of this run:"
        lines += [head, *troubled]
        lines.append(
            "  works: storage=<a folder that is mounted on all nodes>, or a bucket such as "
            "s3://bucket/runs whose credentials all nodes have"
        )
    return lines


def _heads() -> set[str]:
    return {str(each["NodeID"]) for each in ray.nodes() if HEAD_NODE_RESOURCE in each["Resources"]}


def _look(uri: str, call: str, replies: dict[str, str]) -> Sight:
    """On a node: is the driver's file there, and can one be written beside it?"""
    node = ray.get_runtime_context().get_node_id()
    try:
        base = Storage.open(uri)
        if not base.exists(call):
            where = f"on {os.uname().nodename}"
            return Sight(__version__, f"the driver's file is not there {where}: another folder")
        if base.read_bytes(call) != _CALL:
            return Sight(__version__, "the driver's file holds something else")
        base.write_atomic(replies[node], _CALL)
    except StorageError as error:
        return Sight(__version__, str(error))
    return Sight(__version__)
