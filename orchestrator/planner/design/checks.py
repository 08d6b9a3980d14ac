"""What in a workload is missing or contradicts itself?

Each check needs the numbers of more than one section. A workload that asks for little is no
problem: one machine is an answer. One that names nothing at all asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.planner.design.machine import Machine
from orchestrator.planner.design.workload import Agents, Model, Serving, Training, Workload


def check_workload(workload: Workload) -> tuple[Problem, ...]:
    """Everything that is missing or contradictory, in the order of the sections."""
    return tuple(problem for check in _CHECKS for problem in check(workload))


_SUBJECTS = ("data", "model", "training", "serving", "agents")


def _subject(workload: Workload) -> Iterator[Problem]:
    if all(getattr(workload, name) is None for name in _SUBJECTS):
        yield Problem(
            "workload",
            "there is nothing in it that could be distributed: no data, model, training, serving "
            "or agents",
            works="data: {size: 40TB}, or any of these sections",
        )


def _machine(workload: Workload) -> Iterator[Problem]:
    machine = workload.machine
    if machine.devices and machine.device_memory is None:
        yield _missing("machine.device_memory", f"{machine.devices} accelerators have memory")
    if not machine.devices and (machine.device_memory or machine.device_bandwidth):
        yield Problem(
            "machine.devices",
            "is 0, but the memory of an accelerator is given",
            works="machine.devices=8, or without device_memory and device_bandwidth",
        )
    if workload.budget_per_month is not None and machine.price_per_hour is None:
        yield _missing("machine.price_per_hour", "a budget needs the price of a machine")


def _model(workload: Workload) -> Iterator[Problem]:
    model = workload.model
    if model is None:
        wanting = "training" if workload.training else "serving"
        if workload.training or (workload.serving and workload.serving.tokens):
            yield _missing("model", f"{wanting} needs the number of parameters", "parameters: 70B")
        return
    yield from _parts_of_the_model(model)


def _parts_of_the_model(model: Model) -> Iterator[Problem]:
    parts = {
        "active_parameters": model.active_parameters or 0.0,
        "sparse_parameters": model.sparse_parameters,
    }
    for name, value in parts.items():
        if value > model.parameters:
            yield Problem(
                f"model.{name}",
                "a part is larger than the whole",
                f"{value:,.0f} > parameters {model.parameters:,.0f}",
                f"at most {model.parameters:,.0f}",
            )


def _training(workload: Workload) -> Iterator[Problem]:
    training, model = workload.training, workload.model
    if training is None or model is None:
        return
    if training.measured is None and workload.machine.flops is None:
        yield _missing(
            "machine.flops",
            "training time needs what one "
            f"{workload.machine.unit} sustains, unless training.measured is given",
            "400TFLOP/s",
        )
    yield from _batch(training)
    if training.flops_per_sample is None and training.measured is None and _dense(model) <= 0:
        yield _missing("training.flops_per_sample", "every parameter is sparse, so 6 · dense is 0")


def _dense(model: Model) -> float:
    return (model.active_parameters or model.parameters) - model.sparse_parameters


def _batch(training: Training) -> Iterator[Problem]:
    seen = training.samples * training.epochs
    if training.batch > seen:
        yield Problem(
            "training.batch",
            "one batch holds more than all there is",
            f"{training.batch:,.0f} > samples {training.samples:,.0f} × {training.epochs:g} epochs",
            f"at most {seen:,.0f}",
        )


def _trust(workload: Workload) -> Iterator[Problem]:
    apart = workload.trust.domains > 1 and workload.data and not workload.data.may_leave
    if apart and workload.training and workload.trust.link is None:
        yield _missing(
            "trust.link",
            "records stay in their domains, so updates travel between them",
            "{bandwidth: 100Mb/s, latency: 20ms}",
        )
    if workload.failure.survive == "site" and workload.failure.sites == 1:
        yield Problem(
            "failure.survive",
            "the only site cannot be survived",
            "sites: 1",
            "failure.sites=2, or failure.survive=machine",
        )


def _serving(workload: Workload) -> Iterator[Problem]:
    serving = workload.serving
    if serving is None:
        return
    if serving.tokens is None and not (serving.compute or serving.requests_per_machine):
        yield _missing(
            "serving.compute",
            "what one machine can answer: time per request, or a measured rate",
            "compute: 4ms, or requests_per_machine: 3760",
        )
    yield from _tokens(serving, workload.machine)
    if serving.lookups and not serving.lookup_latency:
        yield _missing(
            "serving.lookup_latency", f"{serving.lookups} look-ups take some time", "0.4ms"
        )
    if serving.lookups and serving.latency is None and serving.tokens is None:
        yield _missing("serving.latency", "the budget that look-ups are taken from", "20ms")
    if serving.shards_touched == "all" and workload.data is None:
        yield _missing("data", "requests touch all shards of it", "size: 6TB")


def _tokens(serving: Serving, machine: Machine) -> Iterator[Problem]:
    if serving.tokens is None:
        return
    for name in ("latency", "compute", "requests_per_machine"):
        if getattr(serving, name) is not None:
            yield Problem(
                f"serving.{name}",
                "contradicts serving.tokens, which has budgets and speeds of its own",
                works=f"one of serving.tokens and serving.{name}",
            )
    for name, example in (("device_bandwidth", "3.35TB/s"), ("flops", "400TFLOP/s")):
        if getattr(machine, name) is None:
            yield _missing(f"machine.{name}", "the time of a token depends on it", example)


def _agents(workload: Workload) -> Iterator[Problem]:
    agents: Agents | None = workload.agents
    if agents and agents.peers is not None and agents.peers >= agents.population:
        yield Problem(
            "agents.peers",
            "an agent has more peers than there are others",
            f"{agents.peers} > population {agents.population} - 1",
            f"at most {agents.population - 1}",
        )


def _mode(workload: Workload) -> Iterator[Problem]:
    mode, waits = workload.freshness, workload.serving or workload.agents
    if mode == "batch" and waits and not (workload.training or workload.data):
        yield _against("freshness: batch", "somebody waits for each answer", "interactive")
    if mode == "interactive" and not waits:
        yield _against("freshness: interactive", "nobody asks: no serving and no agents", "batch")
    if mode == "online" and not workload.training:
        yield _against("freshness: online", "the model never learns: no training", "streaming")
    if mode in ("batch", "interactive") and workload.training and workload.training.continuous:
        yield _against(f"freshness: {mode}", "training.continuous learns from each", "online")
    if workload.objective == "latency" and not waits:
        yield Problem(
            "objective", "latency of what? Nothing is served and nobody reacts", works="throughput"
        )
    if workload.objective == "cost" and workload.machine.price_per_hour is None:
        yield _missing("machine.price_per_hour", "the objective is cost")


def _against(said: str, but: str, works: str) -> Problem:
    return Problem("freshness", f"{said}, but {but}", works=works)


def _missing(where: str, why: str, works: str = "") -> Problem:
    return Problem(where, f"is missing: {why}", works=works)


_CHECKS = (_subject, _machine, _model, _training, _trust, _serving, _agents, _mode)
