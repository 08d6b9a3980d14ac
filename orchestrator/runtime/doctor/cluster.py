"""What does a cluster say of itself: its nodes, the ways between them, how fast it starts things?

Called in a process that can connect to the cluster as a driver does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from orchestrator.coordinator.placement import choose_gang
from orchestrator.errors import AxisError
from orchestrator.observe.wording import counted
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers
from orchestrator.runtime.cluster import live_nodes
from orchestrator.runtime.doctor.facts import MachineFacts, left_as_found, measure
from orchestrator.runtime.doctor.findings import (
    Finding,
    judge_alike,
    judge_clock,
    judge_machine,
    judge_storage,
)
from orchestrator.runtime.everywhere import Answer, ask_nodes
from orchestrator.runtime.probe import is_there
from orchestrator.runtime.shared_storage import check_nodes
from orchestrator.storage import Storage

ASK_SECONDS = 8.0
GLOO_SECONDS = 10.0
SLOW_ACTOR_SECONDS = 10.0


@dataclass(frozen=True)
class _Met:
    """What a node said in the exchange between all nodes."""

    rank: int
    total: float
    seconds: float


def examine_cluster(plan: Plan | None, base: Storage | None) -> Iterator[Finding]:
    """Findings about the cluster that this process is connected to, as they are made."""
    nodes = live_nodes()
    yield _raylets([node.id for node in nodes])
    yield _actor()
    own = measure(None)
    gpus = {node.id: int(node.resources.get("GPU", 0)) for node in nodes}
    answers = _ask_all(gpus, base)
    for each, asked, answered in answers:
        yield from _node(each, own, asked, answered)
    if plan is not None and base is not None:
        yield from _plan_on(plan, base)
    told = [each for each, _, _ in answers if each.told is not None]
    yield _between(told, all(gpus[each.node] for each in told))


def _ask_all(
    gpus: dict[str, int], base: Storage | None
) -> list[tuple[Answer[MachineFacts], float, float]]:
    uri = base.uri if base is not None else None
    asked = time.time()
    answers = ask_nodes(list(gpus), _measure_there, uri, gpus, timeout_seconds=ASK_SECONDS)
    return [(each, asked, asked + each.seconds) for each in answers]


def _measure_there(uri: str | None, gpus: dict[str, int]) -> MachineFacts:
    return measure(uri, gpus[ray.get_runtime_context().get_node_id()])


def _node(
    answer: Answer[MachineFacts], own: MachineFacts, asked: float, answered: float
) -> Iterator[Finding]:
    facts, place = answer.told, f"node {answer.place}"
    if facts is None:
        fix = f"look at its raylet's log; one image with axis-orchestrator {own.axis} for all nodes"
        yield Finding("fail", "node", f"{place}: {answer.error}", fix)
        return
    yield Finding("ok", "node", f"{place} ({facts.host}) answered in {answer.seconds:.1f} s")
    yield from judge_alike(own, facts, place)
    where = f" on {place}"
    if facts.host != own.host:  # this machine's own were told; what is well needs no line a node
        yield from (each for each in judge_machine(facts, where) if each.level != "ok")
    yield judge_clock(asked, facts.said_at_seconds, answered, place)
    if facts.storage is not None:
        yield judge_storage(facts.storage, where)


def _raylets(nodes: list[str]) -> Finding:
    silent = [node for node in nodes if not is_there(node)]
    if not silent:
        return Finding("ok", "ports", f"the daemons of {counted(len(nodes), 'node')} are reached")
    text = f"the daemons of {', '.join(node[:12] for node in silent)} are not reached from here"
    fix = "open node-manager-port, object-manager-port and the worker ports between all nodes"
    return Finding("fail", "ports", text, fix)


def _actor() -> Finding:
    began = time.monotonic()
    actor = ray.remote(num_cpus=0)(_Patient).remote()
    try:
        ray.get(actor.ping.remote(), timeout=SLOW_ACTOR_SECONDS)
    except ray.exceptions.RayError as error:
        text = f"none started within {SLOW_ACTOR_SECONDS:g} s: {type(error).__name__}"
        fix = "look at /tmp/ray/session_latest/logs/raylet.out on the head"
        return Finding("fail", "actor", text, fix)
    finally:
        ray.kill(actor)
    return Finding("ok", "actor", f"started in {time.monotonic() - began:.1f} s")


class _Patient:
    def ping(self) -> bool:
        return True


def _plan_on(plan: Plan, base: Storage) -> Iterator[Finding]:
    try:
        choose_gang(plan, live_nodes(), legal_workers(plan))
        yield Finding("ok", "gang", f"{plan.name} fits these nodes")
    except AxisError as error:
        yield Finding("fail", "gang", str(error), "another size of the plan, or more nodes")
    try:
        with left_as_found(base):
            doubtful = check_nodes(plan, base)
        yield from (Finding("warn", "storage", line) for line in doubtful)
        yield Finding("ok", "storage", f"all nodes see the same {base.name}")
    except AxisError as error:
        what, _, fix = str(error).partition("\n  works: ")
        yield Finding("fail", "storage", what, fix)


def _between(told: list[Answer[MachineFacts]], have_gpus: bool) -> Finding:
    """A real exchange between all nodes, as training does it."""
    if len(told) < 2:
        return Finding("ok", "network", "one node: nothing goes over the network")
    first = told[0].told
    assert first is not None
    backend = "nccl" if have_gpus else "gloo"
    ranks = {each.node: rank for rank, each in enumerate(told)}
    rendezvous = f"tcp://{told[0].place}:{first.free_port}"
    answers = ask_nodes(
        list(ranks), _exchange, backend, rendezvous, ranks, timeout_seconds=GLOO_SECONDS
    )
    failed = [each for each in answers if each.told is None]
    if failed:
        text = f"{backend} between {len(told)} nodes: " + "; ".join(
            f"node {each.place} {each.error}" for each in failed
        )
        fix = (
            f"open all TCP ports between nodes; {backend.upper()}_SOCKET_IFNAME names the network "
            "where a machine has several, and a host name must not resolve to 127.0.0.1"
        )
        return Finding("fail", "network", text, fix)
    slowest = max(each.told.seconds for each in answers if each.told is not None)
    text = f"{backend} between {len(told)} nodes: all-reduce in {slowest * 1e3:.1f} ms"
    return Finding("ok", "network", text)


def _exchange(backend: str, rendezvous: str, ranks: dict[str, int]) -> _Met:
    import datetime

    import torch
    import torch.distributed as dist

    rank = ranks[ray.get_runtime_context().get_node_id()]
    patience = datetime.timedelta(seconds=GLOO_SECONDS)
    dist.init_process_group(
        backend, init_method=rendezvous, rank=rank, world_size=len(ranks), timeout=patience
    )
    try:
        device = "cuda" if backend == "nccl" else "cpu"
        value: Any = torch.ones(1, device=device)
        dist.all_reduce(value)
        began = time.perf_counter()
        dist.all_reduce(value)
        return _Met(rank, float(value), time.perf_counter() - began)
    finally:
        dist.destroy_process_group()
