"""Into how many micro-batches is the share of one batch rank cut?

A share of b samples is taken in a passes of m samples, ``b = m·a``; in a pipeline the passes are
the micro-batches that travel through it together, and the schedule has a say in how many. Knows
the model's settings and numbers; not the number of workers, nor whether memory suffices.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan.counts import CountOrAuto
from orchestrator.plan.elastic import divisors
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.model import Model
from orchestrator.plan.pipelining import microbatch_problem, stages_per_rank
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice, either

MICRO_BATCHES_PER_RANK = 2
"""Micro-batches for each rank of a pipeline that ``auto`` aims at: then it stands idle for about a
third of the time at most, (p - 1) / (3p - 1)."""

_SEARCHED_FACTOR = 4


def schedule_problem(model: Model, mesh: Mesh, micro_batches: int) -> str | None:
    """Why a pipeline of this mesh cannot run so many micro-batches; ``None`` if it can."""
    if mesh.pipeline == 1:
        return None
    return microbatch_problem(
        model.pipeline_schedule, mesh.pipeline, model.virtual_stages, micro_batches
    )


def can_cut(model: Model, mesh: Mesh, share: int) -> bool:
    """Whether some number of micro-batches suits the schedule and divides the share."""
    return mesh.pipeline == 1 or any(True for _ in _suitable(model, mesh, share))


def auto_accumulation(model: Model, mesh: Mesh, share: int, at_most: int) -> int:
    """a: passes over a share of ``share`` samples, of at most ``at_most`` samples each.

    Without a pipeline the fewest; with one the fewest that are also at least twice its ranks, or,
    where the share is too small for that, the most that the schedule allows.
    """
    if mesh.pipeline == 1:
        return next(a for a in divisors(share) if share // a <= at_most)
    aim = MICRO_BATCHES_PER_RANK * mesh.pipeline
    suitable = list(_suitable(model, mesh, share))
    enough = (a for a in suitable if a >= aim and share // a <= at_most)
    return next(enough, suitable[-1])


def idle_share(model: Model, mesh: Mesh, micro_batches: int) -> float:
    """The share of a step in which a pipeline rank waits for the first micro-batch to come and the
    last to leave, where all take equally long everywhere: ``(p - 1) / (m·v + p - 1)`` with p ranks
    of v stages and m micro-batches (Narayanan et al. 2021, section 2.2)."""
    stages = stages_per_rank(model.pipeline_schedule, model.virtual_stages)
    waits = mesh.pipeline - 1
    return waits / (micro_batches * stages + waits)


def uncuttable(model: Model, mesh: Mesh, batch: int, micro: CountOrAuto) -> Refusal | None:
    """No number of micro-batches suits the schedule at this mesh, whatever their size; or ``None``.

    ``micro`` is the size that the plan asks for, which the ways out respect.
    """
    degree = mesh.batch_degree
    share = batch // degree
    if can_cut(model, mesh, share):
        return None
    size = 1 if micro == "auto" else micro

    def suits(other: int) -> bool:
        if micro == "auto":
            return can_cut(model, mesh, other)
        return other % size == 0 and schedule_problem(model, mesh, other // size) is None

    highest = size * (_SEARCHED_FACTOR * share + mesh.size)
    sides = range(share - 1, 0, -1), range(share + 1, highest + 1)
    near = [next((other for other in side if suits(other)), None) for side in sides]
    batches = [str(other * degree) for other in near if other is not None]
    ways = [f"training.global_batch={choice(batches)}"] if batches else []
    if model.pipeline_schedule != "gpipe" and share % size == 0:
        ways.append("model.pipeline_schedule=gpipe")
    return Refusal(
        f"the {share} samples of each batch rank cannot be cut into micro-batches for the pipeline",
        f"global batch {batch} / (replicate {mesh.replicate} · shard {mesh.shard}) = {share}; "
        f"with micro-batches of one sample: {schedule_problem(model, mesh, share)}",
        either(ways),
    )


def unsuitable(model: Model, mesh: Mesh, batch: int, micro: int) -> Refusal | None:
    """An explicit micro-batch gives the schedule a number of them that it cannot run; or ``None``.

    ``micro`` must divide the share of a batch rank.
    """
    share = batch // mesh.batch_degree
    problem = schedule_problem(model, mesh, share // micro)
    if problem is None:
        return None
    ways = [f"training.micro_batch={choice([*nearest_sizes(model, mesh, share, micro), 'auto'])}"]
    if model.pipeline_schedule != "gpipe":
        ways.append("model.pipeline_schedule=gpipe")
    return Refusal(
        f"micro-batches of {micro} do not suit the pipeline",
        f"global batch {batch} / (replicate {mesh.replicate} · shard {mesh.shard}) = {share}, "
        f"and {share} / micro_batch {micro} = {share // micro} micro-batches; {problem}",
        either(ways),
    )


def sizes_up_to(model: Model, mesh: Mesh, share: int, at_most: int) -> tuple[int, ...]:
    """Every size of a micro-batch up to ``at_most`` samples that divides the share and suits the
    schedule, the largest first."""
    return tuple(share // a for a in _suitable(model, mesh, share) if share // a <= at_most)


def nearest_sizes(model: Model, mesh: Mesh, share: int, micro: int) -> list[str]:
    """The nearest sizes of a micro-batch below and above ``micro`` that work; none where none
    does."""
    sizes = [share // a for a in _suitable(model, mesh, share)]
    below = max((size for size in sizes if size < micro), default=None)
    above = min((size for size in sizes if size > micro), default=None)
    return [str(size) for size in (below, above) if size is not None]


def _suitable(model: Model, mesh: Mesh, share: int) -> Iterator[int]:
    """Numbers of micro-batches that divide the share and suit the schedule, ascending."""
    return (a for a in divisors(share) if schedule_problem(model, mesh, a) is None)
