"""Stages 3 to 5: which topology, which processing mode, which metric dominates?

Each answer names the rule that decided and the number behind it; the first rule that holds wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.design.ceilings import Demand
from orchestrator.planner.design.sizing import Sizing
from orchestrator.planner.design.wording import count, figure, seconds, share
from orchestrator.planner.design.work import parties_apart
from orchestrator.planner.design.workload import Metric, Workload

HEARTBEAT_SECONDS = 1.0
"""How often a worker is heard from; the least that one costs its coordinator."""
PERCEPTIBLE_SECONDS = 10.0
"""An answer later than this has lost its reader (Nielsen, Usability Engineering, 1993)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided, and why."""

    choice: str
    why: str
    constraints: tuple[str, ...] = ()


def topology(workload: Workload, sizing: Sizing) -> Answer:
    """Centralized, decentralized or hybrid: the simplest that trust, load and failures allow."""
    load = coordinator_load(workload, sizing)
    carried = (
        f"{count(round(load * workload.coordinator_rate))} requests and heartbeats a second are "
        f"{share(load)} of what one coordinator carries"
    )
    parties = parties_apart(workload)
    if workload.agents is not None and workload.agents.alone:
        return Answer("decentralized", "each agent has to act while cut off: no one to wait for")
    if parties > 1 and sizing.training and sizing.training.replicas > parties:
        return Answer(
            "hybrid",
            f"records may not leave {parties} parties: each is centralized inside, they are peers "
            "that exchange updates, and no one holds all records",
        )
    if parties > 1:
        return Answer(
            "decentralized",
            f"records may not leave {parties} parties: they exchange updates, never records",
        )
    if workload.failure.survive == "site":
        return Answer(
            "hybrid",
            f"one of {workload.failure.sites} sites may fail: centralized in a site, peers across",
        )
    if load > 1.0:
        return Answer("hybrid", f"{carried}: one coordinator a region, peers across")
    if workload.failure.sites > 1:
        return Answer(
            "hybrid", f"{workload.failure.sites} sites: centralized in a site, peers across"
        )
    return Answer("centralized", f"one trust domain; {carried}")


def coordinator_load(workload: Workload, sizing: Sizing) -> float:
    """Events per second at one coordinator over what it carries: requests, messages, heartbeats."""
    requests = workload.serving.requests_per_second if workload.serving else 0.0
    agents = workload.agents
    decisions = agents.population * agents.decisions_per_second if agents else 0.0
    heartbeats = sizing.num_machines / HEARTBEAT_SECONDS
    return (requests + decisions + heartbeats) / workload.coordinator_rate


def mode(workload: Workload, demands: tuple[Demand, ...]) -> Answer:
    """Batch, streaming, online or interactive: of what binds or is waited for."""
    serving, training, agents = workload.serving, workload.training, workload.agents
    beside = "" if training is None else "; training beside it is batch"
    if workload.freshness is not None:
        return Answer(workload.freshness, "the workload says so: the product dictates it")
    if training is not None and training.continuous:
        also = "; requests beside it are interactive" if serving else ""
        return Answer("online", f"the model learns from each example as it comes{also}")
    if serving is not None and _binds_before_serving(workload, demands):
        return Answer("batch", "training and data bind, and are bounded; requests are interactive")
    if serving is not None:
        budget = _budget(workload)
        if budget is None or budget <= PERCEPTIBLE_SECONDS:
            waits = f" within {seconds(budget)}" if budget is not None else ""
            return Answer("interactive", f"somebody waits for each answer{waits}{beside}")
        return Answer("streaming", f"answers within {seconds(budget)}: nobody sits and waits")
    if agents is not None:
        react = f", each answered within {seconds(agents.reaction)}" if agents.reaction else ""
        return Answer("streaming", f"what agents perceive never ends{react}")
    data = workload.data
    if data is not None and data.process is not None and data.growth_per_day:
        if data.process.window < 3600.0:
            return Answer("streaming", f"new records within {seconds(data.process.window)}")
        return Answer("batch", f"records of {seconds(data.process.window)} together")
    return Answer("batch", "a bounded set of records, and nobody waits for one of them")


def _binds_before_serving(workload: Workload, demands: tuple[Demand, ...]) -> bool:
    bound = next((demand for demand in demands if demand.binds), None)
    looked_up = workload.data is not None and workload.data.access == "random"
    if bound is None or (bound.axis == "data" and looked_up):
        return False
    return bound.axis in ("data", "training") or bound.name == "training state"


def _budget(workload: Workload) -> float | None:
    serving = workload.serving
    if serving is None:
        return None
    return serving.tokens.first if serving.tokens else serving.latency


def metric(workload: Workload, decided: str, demands: tuple[Demand, ...]) -> Answer:
    """The one metric to optimise; whatever else was asked for is a constraint."""
    constraints = _constraints(workload)
    choice, why = _dominant(workload, decided, demands)
    if workload.objective is not None:
        choice, why = workload.objective, "the workload says so"
    return Answer(choice, why, tuple(text for name, text in constraints if name != choice))


def _dominant(workload: Workload, decided: str, demands: tuple[Demand, ...]) -> tuple[Metric, str]:
    if workload.agents is not None and workload.agents.alone:
        return "reliability", "agents that are cut off must still act safely"
    if parties_apart(workload) > 1:
        return "reliability", "nobody can make the other parties' machines stay up"
    if decided == "interactive" or (decided == "online" and workload.serving is not None):
        return "latency", _latency_words(workload)
    if decided == "streaming":
        return "latency", "an answer has to keep up with what comes in"
    bound = next((demand for demand in demands if demand.binds), None)
    if workload.budget_per_month is not None and (bound is None or decided == "batch"):
        return "cost", "nobody waits, and there is a budget"
    if decided == "online":
        return "throughput", "the model has to keep up with what comes in"
    return "throughput", "nobody waits for one sample, so work per hour counts"


def _latency_words(workload: Workload) -> str:
    serving = workload.serving
    if serving is not None and serving.tokens is not None:
        return (
            f"first token within {seconds(serving.tokens.first)}, then one every "
            f"{seconds(serving.tokens.each)}"
        )
    if serving is not None and serving.latency is not None:
        return f"99 of 100 answers within {seconds(serving.latency)}"
    return "somebody waits for each answer"


def _constraints(workload: Workload) -> list[tuple[str, str]]:
    serving, training, data, agents = (
        workload.serving, workload.training, workload.data, workload.agents,
    )  # fmt: skip
    found: list[tuple[str, str]] = []
    if serving is not None:
        found.append(("latency", _latency_words(workload)))
        found.append(("throughput", f"{count(serving.requests_per_second)} requests/s at the peak"))
    if agents is not None and agents.reaction:
        found.append(("latency", f"reaction within {seconds(agents.reaction)}"))
    if training is not None:
        found.append(("throughput ", f"training done in {seconds(training.deadline)}"))
    if data is not None and data.process is not None:
        found.append(("throughput ", f"processing done in {seconds(data.process.window)}"))
    if workload.failure.survive != "nothing":
        found.append(("reliability", f"survive the loss of a {workload.failure.survive}"))
    if workload.budget_per_month is not None:
        found.append(("cost ", f"{figure(workload.budget_per_month)} a month"))
    return found
