"""How do copies of one parameter on several stages stay one parameter?

Each stage that holds a tied parameter (the embedding that is also the head) has the gradient of
its own use of it. Their sum is the parameter's gradient; copies that begin alike and take the same
steps stay alike. Knows no schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import product

import torch.distributed as dist
from torch import nn

from orchestrator.errors import InfeasibleError
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.norm import local_of, settle
from orchestrator.parallel.pipeline_cut import Tied
from orchestrator.parallel.world import COLLECTIVE_TIMEOUT_SECONDS
from orchestrator.plan.mesh import DIMENSIONS, Mesh, rank_of


def check_apart(tied: Sequence[Tied], degree: int) -> None:
    """Copies must lie on different ranks of a pipeline of ``degree``.

    Raises ``InfeasibleError`` where one rank would have two parameters of one name.
    """
    for one in tied:
        ranks = {stage % degree for stage in one.stages}
        if len(ranks) < len(one.stages):
            raise InfeasibleError(
                f"{one.name} is used by stages {', '.join(map(str, one.stages))}, of which "
                f"a pipeline of {degree} ranks would put several on one rank; tie only "
                "parameters before the blocks to those after them, or use model.pipeline=1"
            )


def uncounted(tied: Sequence[Tied], layout: Layout) -> frozenset[str]:
    """The canonical names of the tied parameters that this rank has, but that an earlier stage
    counts in the norm of the gradient."""
    here, degree = layout.coordinate["pipeline"], layout.mesh.pipeline
    return frozenset(
        one.name for one in tied if here in [stage % degree for stage in one.stages[1:]]
    )


class TiedGradients:
    """The process groups over which gradients of tied parameters are summed.

    Making groups is a collective: every rank of the world must construct this in the same place.
    """

    def __init__(
        self, tied: Sequence[Tied], parameters: Mapping[str, nn.Parameter], layout: Layout
    ) -> None:
        self.shared: list[tuple[str, nn.Parameter, dist.ProcessGroup]] = []
        groups: dict[tuple[int, ...], dist.ProcessGroup | None] = {}
        for one in tied:
            pipeline_ranks = tuple(stage % layout.mesh.pipeline for stage in one.stages)
            if pipeline_ranks not in groups:
                groups[pipeline_ranks] = _group_of(pipeline_ranks, layout)
            group = groups[pipeline_ranks]
            if group is not None and parameters[one.name].requires_grad:
                self.shared.append((one.name, parameters[one.name], group))

    def add_up(self) -> None:
        """Sum each tied gradient over its copies, in place; after it was averaged over samples.

        Raises ``TypeError`` where this stage's loss does not depend on its copy.
        """
        for name, parameter, group in self.shared:
            settle({name: parameter})
            if parameter.grad is None:
                raise TypeError(f"nothing depends on {name} in one of the stages that have it")
            gradient = local_of(parameter.grad)
            if gradient.numel():
                dist.all_reduce(gradient, group=group)


def peers(mesh: Mesh, pipeline_ranks: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Ranks of the world at ``pipeline_ranks`` that agree in every other coordinate; all such
    groups, in an order that is the same everywhere."""
    others = [name for name in DIMENSIONS if name != "pipeline"]
    for place in product(*(range(getattr(mesh, name)) for name in others)):
        coordinate = dict(zip(others, place, strict=True))
        yield tuple(rank_of(mesh, {**coordinate, "pipeline": rank}) for rank in pipeline_ranks)


def _group_of(pipeline_ranks: tuple[int, ...], layout: Layout) -> dist.ProcessGroup | None:
    """This rank's group among ``pipeline_ranks``, or ``None`` if it is none of them."""
    mine = None
    for ranks in peers(layout.mesh, pipeline_ranks):
        timeout = timedelta(seconds=COLLECTIVE_TIMEOUT_SECONDS)
        group = dist.new_group(list(ranks), timeout=timeout)
        if layout.world.rank in ranks:
            mine = group
    return mine
