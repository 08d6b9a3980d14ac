"""Why does a gang lie where it lies, and what does one that is there already look like?"""

from __future__ import annotations

from collections import Counter

from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.gang import gang as gang_of
from orchestrator.coordinator.seating import seat
from orchestrator.coordinator.state import RunState
from orchestrator.errors import PlanError, StorageError
from orchestrator.plan.dump import PLAN_FILE
from orchestrator.plan.load import parse_plan
from orchestrator.plan.mesh_choice import choose_mesh
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import mesh_for
from orchestrator.runtime import gang as gangs
from orchestrator.storage import Storage


def why_these(plan: Plan, assignment: Assignment, before: int | None) -> str:
    """One sentence on the mesh, compared with that of ``before`` workers, and what it costs that
    groups reach across nodes; empty for replicas alone."""
    if not assignment.gang.workers:
        return ""
    slots = list(Counter(assignment.nodes_by_rank).values())
    choice = choose_mesh(plan, slots, [assignment.gang.workers], before)
    reached = [f"{count} × {level}" for level, count in assignment.reach if count > 1]
    where = f"on {', '.join(reached)}" if reached else ""
    return "; ".join(filter(None, [choice.reason, where, *assignment.price]))


def adopted(name: str, run: Storage, state: RunState) -> tuple[Plan, Assignment] | None:
    """The plan and the gang of a run that holds one; ``None`` where there is nothing to adopt."""
    group = gangs.find(gangs.gang_name(name, state.attempt)) if state.gang == "held" else None
    nodes = gangs.nodes_of(group) if group is not None else ()
    plan = _plan_in(run) if nodes else None
    if plan is None:
        return None
    mesh = mesh_for(plan, state.workers) if state.workers else None
    for apart in (False, True):
        gang = gang_of(plan, state.workers, apart=apart)
        if len(gang.bundles) == len(nodes):
            seats = [nodes[bundle] for bundle in gang.training]
            ranks = seat(mesh, seats) if mesh is not None else ()
            return plan, Assignment(gang, nodes, ranks, mesh)
    return None


def _plan_in(run: Storage) -> Plan | None:
    try:
        text = run.read_bytes(PLAN_FILE).decode(errors="replace")
        return parse_plan(text, source=f"{run.uri}/{PLAN_FILE}").plan
    except (StorageError, PlanError):
        return None
