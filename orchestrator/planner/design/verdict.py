"""The whole design in one or two sentences: what to distribute, and what to leave alone."""

from __future__ import annotations

from orchestrator.planner.design.ceilings import Axis
from orchestrator.planner.design.design import Design, Round
from orchestrator.planner.design.wording import counted
from orchestrator.planner.design.work import parties_apart
from orchestrator.planner.design.workload import Workload


def verdict(found: Design) -> str:
    """What to do and what not to do, as a person would say it in a meeting."""
    walk, workload = found.final, found.workload
    if found.one_machine:
        return _one_machine(workload)
    spread: list[Axis] = [each.axis for each in walk.distributed if each.axis != "coordination"]
    said = [_DO[axis](workload, walk) for axis in spread]
    said += _leave(workload, spread)
    if len(said) == 1:
        said.append("nothing else")
    text = "; ".join(part for part in said if part) + "."
    return text[:1].upper() + text[1:]


def _one_machine(workload: Workload) -> str:
    text = "One machine: no ceiling binds, so distribute nothing."
    if workload.serving is not None and workload.failure.survive == "machine":
        text += " A second one stands by, as the loss of a machine has to be survived."
    if workload.failure.survive == "site":
        text += f" Copies stand in {workload.failure.sites} sites, as one may be lost."
    return text


def _data(workload: Workload, walk: Round) -> str:
    if parties_apart(workload) > 1:
        return f"leave the records with their {workload.trust.domains} owners"
    if walk.sizing.index_machines:
        return f"shard the looked-up data over {counted(walk.sizing.index_machines, 'machine')}"
    return f"shard the data over {counted(walk.sizing.data_machines, 'machine')}"


def _training(workload: Workload, walk: Round) -> str:
    pool, unit = walk.sizing.training, workload.machine.unit
    if pool is None:
        return ""
    if walk.choice.collective == "local-update":
        return (
            f"train in all {parties_apart(workload)} places and average the models every "
            f"{walk.choice.local_steps:,} steps"
        )
    if pool.split > 1:
        if pool.replicas == 1:
            return f"train one replica on {pool.split} {unit}s"
        product = f"{pool.replicas} × {pool.split} = {pool.num_devices:,} {unit}s"
        return f"train on {product}, each replica split over {pool.split}"
    return f"train on {counted(pool.replicas, unit)} that share each batch"


def _model(workload: Workload, walk: Round) -> str:
    sizing, unit = walk.sizing, workload.machine.unit
    told = {each.axis for each in walk.distributed}
    parts = []
    if sizing.training is not None and sizing.training.split > 1 and "training" not in told:
        parts.append(f"train it on {sizing.training.split} {unit}s")
    if sizing.serving is not None and sizing.serving.split > 1 and "inference" not in told:
        parts.append(f"serve each copy of the model from {sizing.serving.split} {unit}s")
    return " and ".join(parts)


def _inference(workload: Workload, walk: Round) -> str:
    pool = walk.sizing.serving
    if pool is None:
        return ""
    if walk.sizing.index_machines:
        return f"keep {pool.replicas} copies of all shards for the requests"
    if pool.split > 1:
        devices = f"{pool.replicas} × {pool.split} = {pool.num_devices:,} {workload.machine.unit}s"
        return f"replicate inference on {devices}, each copy split over {pool.split}"
    return f"replicate inference {pool.replicas} times"


def _intelligence(workload: Workload, walk: Round) -> str:
    agents, tax = workload.agents, walk.taxes.agents
    if agents is None or tax is None:
        return ""
    return f"let each of {agents.population:,} agents decide and talk to {tax.peers} peers"


def _leave(workload: Workload, spread: list[Axis]) -> list[str]:
    """What was asked for and is better left on one machine."""
    left = []
    if workload.model is not None and "model" not in spread:
        left.append("keep the model whole")
    if workload.training is not None and "training" not in spread:
        left.append("do not distribute training")
    if workload.data is not None and "data" not in spread:
        left.append("leave the data on one machine")
    return left


_DO = {
    "data": _data,
    "training": _training,
    "model": _model,
    "inference": _inference,
    "intelligence": _intelligence,
}
