"""Which rank stands where in the device mesh, and does the mesh fill the workers?

Plain integers: degrees, ranks and coordinates. Knows nothing of devices, nodes or torch.
Ranks are laid out row-major over ``DIMENSIONS``, so that neighbouring ranks share a tensor
group, the dimension that talks most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.plan.model import Model
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import choice, either

DIMENSIONS = ("pipeline", "replicate", "shard", "context", "tensor")
"""From the outermost, whose ranks lie furthest apart, to the innermost. ``expert`` reuses
ranks of replicate, shard and context and is no dimension of its own."""

SHORT_NAMES = {
    "replicate": "dp",
    "shard": "fsdp",
    "tensor": "tp",
    "pipeline": "pp",
    "context": "cp",
    "expert": "ep",
}
"""What torch and its users call the dimensions."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Degrees of every dimension, each at least 1."""

    replicate: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name in SHORT_NAMES:
            if getattr(self, name) < 1:
                raise ValueError(f"a degree is at least 1, but {name} is {getattr(self, name)}")
        _check_expert(self)

    @property
    def size(self) -> int:
        """K: ranks in the mesh."""
        return self.replicate * self.shard * self.tensor * self.pipeline * self.context

    @property
    def batch_degree(self) -> int:
        """Ranks that see different samples; context, tensor and pipeline ranks share theirs."""
        return self.replicate * self.shard

    def __str__(self) -> str:
        split = [f"{name} {getattr(self, name)}" for name in SHORT_NAMES]
        return " · ".join(part for part in split if not part.endswith(" 1")) or "one worker"


def resolve_mesh(model: Model, workers: int) -> Mesh:
    """The mesh of ``model`` over ``workers`` ranks, with ``-1`` replaced by what is left over.

    Raises ``Refusal`` (a ``ValueError``) that prints every factor and the nearest numbers
    that work.
    """
    degrees: dict[str, int] = {name: getattr(model, name) for name in DIMENSIONS}
    ambiguous = two_rests(model)
    if ambiguous is not None:
        raise ambiguous
    rest = [name for name, degree in degrees.items() if degree == -1]
    fixed = fixed_size(model)
    if rest and workers % fixed == 0 and workers >= fixed:
        degrees[rest[0]] = workers // fixed
    elif rest or fixed != workers:
        raise _misfit(model, workers)
    return Mesh(**degrees, expert=model.expert)


def fixed_size(model: Model) -> int:
    """The product of the degrees that are not ``-1``, without ``expert``."""
    return math.prod(max(1, getattr(model, name)) for name in DIMENSIONS)


def has_rest(model: Model) -> bool:
    """Whether some degree is ``-1`` and takes what the others leave."""
    return any(getattr(model, name) == -1 for name in DIMENSIONS)


def rank_of(mesh: Mesh, coordinate: Mapping[str, int]) -> int:
    """The rank at a coordinate: one index for each of ``DIMENSIONS``.

    Raises ``ValueError`` for a missing or unknown dimension or an index outside its degree.
    """
    if set(coordinate) != set(DIMENSIONS):
        raise ValueError(f"a coordinate names {', '.join(DIMENSIONS)}, not {sorted(coordinate)}")
    rank = 0
    for name in DIMENSIONS:
        degree, index = getattr(mesh, name), coordinate[name]
        if not 0 <= index < degree:
            raise ValueError(f"{name} index {index} is outside 0..{degree - 1} of {mesh}")
        rank = rank * degree + index
    return rank


def coordinate_of(mesh: Mesh, rank: int) -> dict[str, int]:
    """Where a rank stands: its index along each of ``DIMENSIONS``, outermost first.

    Raises ``ValueError`` for a rank outside the mesh.
    """
    if not 0 <= rank < mesh.size:
        raise ValueError(f"rank {rank} is outside 0..{mesh.size - 1} of {mesh}")
    indices: dict[str, int] = {}
    for name in reversed(DIMENSIONS):
        rank, indices[name] = divmod(rank, getattr(mesh, name))
    return {name: indices[name] for name in DIMENSIONS}


def batch_rank_of(mesh: Mesh, rank: int) -> int:
    """Which of the ``batch_degree`` slices of a global batch a rank computes."""
    coordinate = coordinate_of(mesh, rank)
    return coordinate["replicate"] * mesh.shard + coordinate["shard"]


def two_rests(model: Model) -> Refusal | None:
    """More than one degree is ``-1``, whatever the number of workers; or ``None``."""
    rest = [f"model.{name}" for name in DIMENSIONS if getattr(model, name) == -1]
    if len(rest) < 2:
        return None
    return Refusal(
        f"{' and '.join(rest)} are -1, but only one degree can be the rest of the workers",
        works=either([f"{name}=1" for name in rest]),
    )


def _misfit(model: Model, workers: int) -> Refusal:
    fixed = fixed_size(model)
    factors = [f"{n} {getattr(model, n)}" for n in SHORT_NAMES if n in DIMENSIONS]
    factors = [factor for factor in factors if not factor.endswith("-1")]
    product = f"{' · '.join(factors)} = {fixed}"
    if not has_rest(model):
        return Refusal(
            f"the mesh holds {fixed} workers, not {workers}",
            f"{product}, and training.workers is {workers}",
            either([f"training.workers={fixed}", *_smaller_degrees(model, workers)]),
        )
    times, remainder = divmod(workers, fixed)
    below = [str(times * fixed)] if times else []
    counts = choice([*below, str((times + 1) * fixed)])
    return Refusal(
        f"the mesh does not fill {workers} workers evenly",
        f"{product} does not divide {workers} workers ({workers} = {fixed}·{times} + {remainder})",
        either([f"training.workers={counts}", *_smaller_degrees(model, workers)]),
    )


def _smaller_degrees(model: Model, workers: int) -> list[str]:
    """Changes of one degree that make the mesh fit: the largest smaller one, or -1."""
    fixed, rest = fixed_size(model), has_rest(model)
    found = []
    for name in DIMENSIONS:
        degree = getattr(model, name)
        others = fixed // max(1, degree)
        if degree == -1 or workers % others:
            continue
        if not rest:
            found.append(f"model.{name}={workers // others}")
            continue
        fitting = [d for d in range(1, degree) if workers % (others * d) == 0]
        found += [f"model.{name}={fitting[-1]}"] if fitting else []
    return found if rest else found[:2]


def _check_expert(mesh: Mesh) -> None:
    reused = mesh.replicate * mesh.shard * mesh.context
    if reused % mesh.expert == 0:
        return
    fitting = [d for d in range(1, reused + 1) if reused % d == 0]
    below = [d for d in fitting if d < mesh.expert][-1:]
    above = [d for d in fitting if d > mesh.expert][:1]
    raise Refusal(
        "model.expert does not divide the ranks that it reuses",
        f"replicate {mesh.replicate} · shard {mesh.shard} · context {mesh.context} = {reused}, "
        f"and {reused} = {mesh.expert}·{reused // mesh.expert} + {reused % mesh.expert}",
        either([f"model.expert={d}" for d in below + above]),
    )
