"""How fast does one replica answer, and over how many devices must it be split?

Two kinds of service: an answer of known compute time, and a language model that answers token by
token, limited by memory bandwidth when alone and by FLOP when batched (a roofline). It does not
know how many replicas there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.planner.design.machine import Machine
from orchestrator.planner.design.wording import figure, seconds
from orchestrator.planner.design.work import (
    ANSWER_FLOPS_PER_PARAMETER,
    active_parameters,
    serving_bytes,
)
from orchestrator.planner.design.workload import Model, Tokens, Workload
from orchestrator.planner.scaling import Roofline


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, and where the number comes from."""

    per_second: float
    arithmetic: str


@dataclass(frozen=True, slots=True)
class Replica:
    """A language model on ``split`` devices, at the batch that it answers at."""

    split: int
    batch: int
    prompt_seconds: float
    token_seconds: float
    exchange_seconds: float
    """Of a token's time, what the devices spend exchanging activations."""
    requests_per_second: float


def machine_rate(workload: Workload) -> Rate | None:
    """What one machine answers at full utilization; ``None`` where nothing is served."""
    serving, machine = workload.serving, workload.machine
    if serving is None:
        return None
    if serving.requests_per_machine is not None:
        return Rate(serving.requests_per_machine, "measured")
    if serving.compute is not None:
        noun = "devices" if machine.devices else "cores"
        return Rate(
            machine.lanes / serving.compute, f"{machine.lanes} {noun} / {seconds(serving.compute)}"
        )
    replica = token_replica(workload)
    if replica is None:
        return None
    per_second = replica.requests_per_second * machine.num_units / replica.split
    return Rate(
        per_second,
        f"{figure(machine.num_units / replica.split)} replicas of {replica.split} devices · "
        f"{figure(replica.requests_per_second)}/s",
    )


def answer_seconds(workload: Workload) -> float | None:
    """Computing one answer on one core or device, where that is known."""
    serving = workload.serving
    return serving.compute if serving is not None else None


def fitting_split(needed: float, machine: Machine) -> int:
    """Devices that hold ``needed`` devices' worth: a power of two within a machine, else whole
    machines, since a split that straddles machines unevenly leaves devices idle."""
    units = machine.num_units
    least = max(1, math.ceil(needed - 1e-9))
    for power in range(units.bit_length()):
        if least <= 2**power <= units:
            return int(2**power)
    return math.ceil(least / units) * units


def serving_split(workload: Workload) -> int:
    """Devices that one replica has to be spread over, by memory and by time."""
    model, machine, serving = workload.model, workload.machine, workload.serving
    if serving is None:
        return 1
    if serving.tokens is not None:
        replica = token_replica(workload)
        return replica.split if replica else 1
    needed = serving_bytes(model) / machine.unit_memory if model is not None else 1.0
    if serving.compute is not None and serving.latency is not None:
        needed = max(needed, serving.compute / serving.latency)
    return fitting_split(needed, machine)


@lru_cache(maxsize=64)
def token_replica(workload: Workload) -> Replica | None:
    """The smallest split that holds the weights and keeps both token budgets.

    Where no split within a machine keeps them, the largest of these: the tax then tells by how
    much it is too slow.
    """
    serving, model = workload.serving, workload.model
    if serving is None or serving.tokens is None or model is None:
        return None
    replica = None
    for split in _splits(workload, model, serving.tokens):
        replica = _replica(workload, model, serving.tokens, split)
        if replica.prompt_seconds <= serving.tokens.first and (
            replica.token_seconds <= serving.tokens.each
        ):
            break
    return replica


def token_seconds(workload: Workload, split: int, batch: int) -> float:
    """Time of one more token for each of ``batch`` requests on ``split`` devices.

    Weights and key-value cache read once, 2 · active parameters · batch FLOP: the roofline of
    ``split`` devices. Exchanges between the devices come on top.
    """
    serving, model, machine = workload.serving, workload.model, workload.machine
    if serving is None or serving.tokens is None or model is None:
        return 0.0
    roof = Roofline(
        split * (machine.flops or math.nan), split * (machine.device_bandwidth or math.nan)
    )
    weights = min(serving_bytes(model), batch * serving_bytes(model, active=True))
    state = batch * _state_bytes(serving.tokens)
    flops = ANSWER_FLOPS_PER_PARAMETER * active_parameters(model) * batch
    return roof.seconds(flops, weights + state) + exchange_seconds(workload, split)


def exchange_seconds(workload: Workload, split: int) -> float:
    """Two all-reduces a layer (Megatron-LM, arXiv:1909.08053), each log2(split) latencies down
    and up; their bytes are few. 0 where the layers are not known."""
    model, machine = workload.model, workload.machine
    if split <= 1 or model is None or model.layers is None:
        return 0.0
    link = machine.device_link if split <= machine.num_units else machine.network
    return 2 * model.layers * 2 * math.log2(split) * link.latency


def _splits(workload: Workload, model: Model, tokens: Tokens) -> Iterator[int]:
    machine = workload.machine
    needed = (serving_bytes(model) + _state_bytes(tokens)) / machine.unit_memory
    least = fitting_split(needed, machine)
    yield least
    while least < machine.num_units:
        least = fitting_split(least + 1, machine)
        yield least


def _replica(workload: Workload, model: Model, tokens: Tokens, split: int) -> Replica:
    machine = workload.machine
    spare = split * machine.unit_memory - serving_bytes(model)
    state = _state_bytes(tokens)
    held = int(spare / state) if state else tokens.max_batch
    batch = max(1, min(tokens.max_batch, held))
    while batch > 1 and token_seconds(workload, split, batch) > tokens.each:
        batch -= 1
    step = token_seconds(workload, split, batch)
    flops = ANSWER_FLOPS_PER_PARAMETER * active_parameters(model) * tokens.prompt
    prompt = flops / (split * (machine.flops or math.nan))
    return Replica(
        split=split,
        batch=batch,
        prompt_seconds=prompt,
        token_seconds=step,
        exchange_seconds=exchange_seconds(workload, split),
        requests_per_second=1.0 / (prompt + tokens.output * step / batch),
    )


def _state_bytes(tokens: Tokens) -> float:
    return (tokens.prompt + tokens.output) * tokens.state_per_token
