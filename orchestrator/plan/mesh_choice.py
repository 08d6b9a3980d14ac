"""Which of a plan's legal meshes suits the nodes that are there, and why?

A pure function of the plan and of how many workers each node could hold. Does not know how workers
are placed, nor what else wants the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.plan.mesh import SHORT_NAMES, Mesh
from orchestrator.plan.plan import Plan
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.sizes import batch_shape, legal_workers, mesh_for
from orchestrator.plan.wording import either


@dataclass(frozen=True, slots=True)
class MeshChoice:
    """A number of workers, the mesh that they form, and one sentence on why it is this one."""

    workers: int
    mesh: Mesh
    reason: str


def choose_mesh(
    plan: Plan, slots: Sequence[int], legal: Sequence[int] | None = None, before: int | None = None
) -> MeshChoice:
    """The largest legal number of workers of which every tensor·pipeline group has a node to
    itself; where no legal number allows that, the largest at all.

    ``slots`` are the workers that each node could hold, ``legal`` the counts to choose from (those
    of the plan, where not given), ``before`` what the reason compares with: the workers of the
    last attempt, or the most that the plan asks for. Raises ``Refusal`` saying what is missing
    where none of the counts can be held.
    """
    counts = sorted(legal_workers(plan) if legal is None else legal, reverse=True)
    room = sum(slots)
    held = [count for count in counts if count <= room]
    if not held:
        raise _no_room(plan, slots, counts)
    whole = (count for count in held if keeps_groups_whole(mesh_for(plan, count), slots))
    workers = next(whole, held[0])
    passed_over = held[0] if workers != held[0] else None
    mesh = mesh_for(plan, workers)
    told = before if before is not None else max(legal_workers(plan), default=workers)
    parts = [_change(plan, told, workers), _batch(plan, told, workers)]
    parts += _groups(mesh, slots, passed_over)
    return MeshChoice(workers, mesh, "; ".join(parts))


def group_size(mesh: Mesh) -> int:
    """Workers that talk in every layer or every micro-batch: one tensor·pipeline group."""
    return mesh.tensor * mesh.pipeline


def keeps_groups_whole(mesh: Mesh, slots: Sequence[int]) -> bool:
    """Whether every tensor·pipeline group can lie inside one node."""
    size = group_size(mesh)
    return size == 1 or sum(slot // size for slot in slots) >= mesh.size // size


def _no_room(plan: Plan, slots: Sequence[int], counts: Sequence[int]) -> Refusal:
    """No legal number of workers fits."""
    room, rooms = sum(slots), " + ".join(map(str, slots)) or "none"
    if not counts:
        return Refusal(f"no number of workers suits {plan.name}", f"nodes have room for {room}")
    smallest = counts[-1]
    short = smallest - room
    missing = "1 is missing" if short == 1 else f"{short} are missing"
    return Refusal(
        f"no mesh of this plan fits: its smallest is {mesh_for(plan, smallest)}, "
        f"on {_workers(smallest)}",
        f"nodes have room for {rooms} = {room} workers; {missing}; legal are "
        f"{', '.join(map(str, reversed(counts)))}",
        either([f"nodes with room for {short} more", "smaller training.resources"]),
    )


def _change(plan: Plan, before: int, workers: int) -> str:
    now = mesh_for(plan, workers)
    if before == workers:
        return "1 worker" if workers == 1 else f"{_workers(workers)}: {now}"
    try:
        then = mesh_for(plan, before)
    except Refusal:
        return f"{before} → {_workers(workers)}: {now}"
    named = [name for name in SHORT_NAMES if getattr(then, name) != 1 or getattr(now, name) != 1]
    degrees = ((name, getattr(then, name), getattr(now, name)) for name in named)
    said = [f"{name} {old} kept" if old == new else f"{name} {old} → {new}"
            for name, old, new in degrees]  # fmt: skip
    return f"{before} → {_workers(workers)}: {', '.join(said)}"


def _batch(plan: Plan, before: int, workers: int) -> str:
    shape, batch = batch_shape(plan, workers), plan.training.global_batch
    mesh = mesh_for(plan, workers)
    cut = f"{mesh.batch_degree} × {shape.per_worker} samples"
    noun = "micro-batch" if mesh.pipeline > 1 else "pass"
    now = f"{shape.accumulation} {noun}{'' if shape.accumulation == 1 else 'es'}"
    if before == workers:
        return f"a batch of {batch} = {cut}, in {now} of {shape.micro_batch}"
    earlier = _accumulation(plan, before)
    change = "" if earlier in (None, shape.accumulation) else f"{earlier} → "
    return f"the batch stays {batch} = {cut}, by {change}{now} of {shape.micro_batch}"


def _accumulation(plan: Plan, workers: int) -> int | None:
    """The passes at another number of workers; ``None`` where this plan has no mesh for it."""
    try:
        return batch_shape(plan, workers).accumulation
    except Refusal:
        return None


def _groups(mesh: Mesh, slots: Sequence[int], passed_over: int | None) -> list[str]:
    """What becomes of the tensor·pipeline groups, where there are several nodes to lie on."""
    size = group_size(mesh)
    if size == 1 or len(slots) < 2:
        return []
    groups = mesh.size // size
    named = _named(mesh)
    if keeps_groups_whole(mesh, slots):
        because = ""
        if passed_over is not None:
            because = f"; {passed_over} workers would fit, but only with groups across nodes"
        return [f"every {named} group of {size} has room inside one node{because}"]
    whole = sum(slot // size for slot in slots)
    rooms = ", ".join(map(str, slots))
    return [
        f"{groups - whole} of {groups} {named} groups of {size} reach across nodes, which hold "
        f"{rooms}: {_cost(mesh, slots)}"
    ]


def _named(mesh: Mesh) -> str:
    return "·".join(name for name in ("tensor", "pipeline") if getattr(mesh, name) > 1)


def _cost(mesh: Mesh, slots: Sequence[int]) -> str:
    rows = sum(slot // mesh.tensor for slot in slots)
    if mesh.tensor > 1 and rows < mesh.size // mesh.tensor:
        return (
            "what tensor ranks gather and sum in every layer crosses the network there, so each "
            "layer of each pass waits for it"
        )
    return "the activations of each micro-batch cross the network between stages, forward and back"


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
