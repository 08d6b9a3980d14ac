"""Can this Job's model be cut as the plan's mesh asks?

Answered from what ``Job.split`` says in names and numbers, for every mesh that the plan may take;
no model is built, and torch is not imported. Whether what a Job says of its model is true is found
out when the model is laid over the mesh.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from orchestrator.errors import Problem
from orchestrator.job import Job
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.pipelining import num_stages
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers, mesh_for, nearest_counts
from orchestrator.plan.wording import either
from orchestrator.split import Dimension, Split

CUTTING: tuple[Dimension, ...] = ("tensor", "pipeline", "context", "expert")
"""Dimensions that a Job has to describe."""

_FIELDS: dict[Dimension, tuple[str, ...]] = {
    "tensor": ("tensor",),
    "pipeline": ("blocks", "num_blocks"),
    "context": ("blocks", "sequence"),
    "expert": ("experts",),
}
"""What ``Split`` must say for a dimension."""

_SUBJECTS: dict[Dimension, str] = {
    "tensor": "which of its layers are spread over tensor ranks",
    "pipeline": "which layers a pipeline can be cut between",
    "context": "which layers attend to a sequence, and where in its tensors that lies",
    "expert": "which of its modules hold experts",
}

_LARGEST_DEGREE = 4096
"""Degrees that would do are looked for up to here."""
_MOST_TRIED = 8


def needs_split(plan: Plan) -> bool:
    """Whether some mesh of the plan cuts the model itself, or recomputes its blocks."""
    cut = any(getattr(mesh, name) > 1 for mesh in _meshes(plan) for name in CUTTING)
    return cut or plan.model.activation_checkpoint != "none"


def tells_loss_in_parts(job_class: type[Job]) -> bool:
    """Whether a Job defines ``arguments`` and ``criterion`` rather than ``loss`` alone."""
    return all(getattr(job_class, name) is not getattr(Job, name) for name in _PARTS)


_PARTS = ("arguments", "criterion")


def check_split(plan: Plan, split: Split | None, in_parts: bool = True) -> tuple[Problem, ...]:
    """Everything that keeps the model from being cut as the plan's meshes ask.

    ``split`` is what the Job says, ``in_parts`` whether it tells its loss in parts, which cutting
    by ``pipeline`` or ``context`` needs. Each problem names the factors and the nearest degrees
    that would do.
    """
    told = split or Split()
    found: list[Problem] = []
    for mesh in _meshes(plan):
        known = {problem.where for problem in found}  # an example of each is enough
        found += [each for each in _of_mesh(plan, told, in_parts, mesh) if each.where not in known]
    if plan.model.activation_checkpoint != "none" and not told.blocks:
        found.append(_nothing_to_recompute(plan))
    return tuple(found)


def _meshes(plan: Plan) -> list[Mesh]:
    """The meshes of all legal counts, one for each way in which they cut the model."""
    meshes = [mesh_for(plan, workers) for workers in legal_workers(plan)]
    return list({tuple(getattr(mesh, d) for d in CUTTING): mesh for mesh in meshes}.values())


def _of_mesh(plan: Plan, split: Split, in_parts: bool, mesh: Mesh) -> Iterator[Problem]:
    for dimension in CUTTING:
        if getattr(mesh, dimension) == 1:
            continue
        if not all(getattr(split, field) for field in _FIELDS[dimension]):
            yield _undescribed(plan, dimension)
            continue
        if dimension in ("pipeline", "context") and not in_parts:
            yield _loss_in_one_piece(plan, dimension)
        yield from _indivisible(plan, split, mesh, dimension)
    if mesh.pipeline > 1 and split.num_blocks:
        yield from _too_few_blocks(plan, split, mesh)


def _undescribed(plan: Plan, dimension: Dimension) -> Problem:
    fields = " and ".join(_FIELDS[dimension])
    return Problem(
        f"model.{dimension}",
        f"{plan.job} says nothing about {_SUBJECTS[dimension]}",
        works=f"model.{dimension}=1, or a split() of the Job with {fields}",
    )


def _loss_in_one_piece(plan: Plan, dimension: Dimension) -> Problem:
    why = (
        "in a pipeline the model is called stage by stage"
        if dimension == "pipeline"
        else "along the sequence, what the model gets and what the loss compares are cut apart"
    )
    return Problem(
        f"model.{dimension}",
        f"{plan.job} does not define both arguments and criterion, which the loss is taken "
        f"apart into: {why}",
        works=f"model.{dimension}=1, or prepare, arguments and criterion in place of loss",
    )


def _nothing_to_recompute(plan: Plan) -> Problem:
    mode = plan.model.activation_checkpoint
    return Problem(
        "model.activation_checkpoint",
        f"{mode} recomputes the model's blocks, but {plan.job} does not say which they are",
        works="model.activation_checkpoint=none, or a split() of the Job with blocks",
    )


def _indivisible(plan: Plan, split: Split, mesh: Mesh, dimension: Dimension) -> Iterator[Problem]:
    degree = getattr(mesh, dimension)
    sizes = split.divisible.get(dimension, {})
    rests = []
    for name, size in sizes.items():
        pieces, factors = _pieces(split, mesh, dimension, name, degree)
        if size % pieces:
            rest = f"{size} = {pieces}·{size // pieces} + {size % pieces}"
            rests.append(f"{name} {rest}" if pieces == degree else f"{factors}, and {name} {rest}")
    if not rests:
        return

    def suits(candidate: int) -> bool:
        return all(
            size % _pieces(split, mesh, dimension, name, candidate)[0] == 0
            for name, size in sizes.items()
        )

    yield Problem(
        f"model.{dimension}",
        f"sizes of the model do not divide by {dimension} {degree}",
        "; ".join(rests),
        _nearest(plan, dimension, degree, suits),
    )


def _pieces(
    split: Split, mesh: Mesh, dimension: Dimension, name: str, degree: int
) -> tuple[int, str]:
    """How many equal pieces a size is cut into, and the factors of that number.

    A context rank holds two pieces of a sequence, one from each end, so that causal attention
    costs all ranks alike. A size that both ``tensor`` and ``context`` cut is a sequence: each
    tensor rank holds a piece of what its context rank holds. (Where ``context`` itself does not
    divide it, that is said of ``context`` alone.)
    """
    if dimension == "context":
        return 2 * degree, f"2 · context {degree} = {2 * degree}"
    lengths = split.divisible.get("context", {})
    if dimension == "tensor" and lengths.get(name, 1) % (2 * mesh.context) == 0:
        pieces = degree * mesh.context
        return pieces, f"tensor {degree} · context {mesh.context} = {pieces}"
    return degree, f"{dimension} {degree}"


def _too_few_blocks(plan: Plan, split: Split, mesh: Mesh) -> Iterator[Problem]:
    model = plan.model
    schedule, virtual = model.pipeline_schedule, model.virtual_stages
    stages = num_stages(schedule, mesh.pipeline, virtual)
    if split.num_blocks >= stages:
        return
    product = f"pipeline {mesh.pipeline}"
    ways = []
    if stages != mesh.pipeline:
        product += f" · virtual_stages {virtual}"
        fewer = split.num_blocks // mesh.pipeline
        ways += [f"model.virtual_stages={fewer}"] if fewer > 1 else []
        ways += ["model.pipeline_schedule=1f1b"] if split.num_blocks >= mesh.pipeline else []

    def suits(candidate: int) -> bool:
        return num_stages(schedule, candidate, virtual) <= split.num_blocks

    ways.append(_nearest(plan, "pipeline", mesh.pipeline, suits))
    yield Problem(
        "model.pipeline",
        f"a pipeline of {stages} stages needs at least as many blocks",
        f"{product} = {stages} stages, and {split.blocks} has {split.num_blocks} blocks",
        either(ways),
    )


def _nearest(plan: Plan, dimension: Dimension, degree: int, suits: Callable[[int], bool]) -> str:
    """The nearest degrees below and above that suit the model and for which there is a mesh."""
    sides = range(degree - 1, 0, -1), range(degree + 1, _LARGEST_DEGREE)
    found = []
    for side in sides:
        suiting = itertools.islice((each for each in side if suits(each)), _MOST_TRIED)
        found.append(_first_way(plan, dimension, list(suiting)))
    return either([way for way in found if way])


def _first_way(plan: Plan, dimension: Dimension, degrees: Sequence[int]) -> str:
    """The first degree that still splits the model and suits the plan's number of workers; where
    none does, the first for which there is another number."""
    for degree in degrees:
        if degree > 1 and legal_workers(_with_degree(plan, dimension, degree)):
            return f"model.{dimension}={degree}"
    for degree in degrees:
        changed = _with_degree(plan, dimension, degree)
        if legal_workers(changed):
            return f"model.{dimension}={degree}"
        most = plan.training.workers.max
        counts = sorted(nearest_counts(changed, most), key=lambda count: abs(count - most))
        if counts:
            return f"model.{dimension}={degree} training.workers={counts[0]}"
    return ""


def _with_degree(plan: Plan, dimension: Dimension, degree: int) -> Plan:
    return plan.model_copy(update={"model": plan.model.model_copy(update={dimension: degree})})
