"""How are the matrices of a layer spread over ranks?

Carries out what ``Split.tensor`` says, on DTensor: tensor parallelism (Shoeybi et al. 2019) whose
activations between blocks are pieces of the sequence (Korthikanti et al. 2022). Every rank has
built the same model, so that spreading it takes no communication.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from orchestrator.split import TensorStyle

SEQUENCE_DIM = 1
"""Activations are ``[batch, time, width]``."""


class Gather(ParallelStyle):
    """Gathers a module's first argument along the sequence before it runs.

    It stays a DTensor, so that the gradients of all matrices that read it (q, k and v) are added
    up first and cross wires once.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def gathered(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            piece = DTensor.from_local(arguments[0], device_mesh, [Shard(SEQUENCE_DIM)])
            return piece.redistribute(device_mesh, [Replicate()]), *arguments[1:]

        module.register_forward_pre_hook(gathered)
        return module


def gather_sequence(piece: Tensor, mesh: DeviceMesh) -> Tensor:
    """Pieces ``[batch, time/degree, …]`` of all ranks → ``[batch, time, …]`` on each, as a plain
    tensor. Each rank's gradient of it is taken for a part, and the parts are summed."""
    whole = DTensor.from_local(piece, mesh, [Shard(SEQUENCE_DIM)]).redistribute(mesh, [Replicate()])
    local: Tensor = whole.to_local(grad_placements=[Partial()])
    return local


STYLES: Mapping[TensorStyle, Callable[[], ParallelStyle]] = {
    "embedding": lambda: RowwiseParallel(
        input_layouts=Replicate(), output_layouts=Shard(SEQUENCE_DIM)
    ),
    "sequence": lambda: SequenceParallel(sequence_dim=SEQUENCE_DIM, use_local_output=True),
    "gather": Gather,
    "colwise": ColwiseParallel,
    "rowwise": lambda: RowwiseParallel(output_layouts=Shard(SEQUENCE_DIM)),
    "colwise_gather": lambda: ColwiseParallel(
        input_layouts=Shard(SEQUENCE_DIM), output_layouts=Replicate()
    ),
}
"""Styles that treat one module by itself."""


def spread_tensors(
    model: nn.Module, styles: Mapping[str, TensorStyle], mesh: DeviceMesh
) -> dict[str, TensorStyle]:
    """Spread the matrices of ``model`` over ``mesh``, in place, as ``styles`` says.

    Modules without a parameter are passed over: another pipeline stage has them. Returns what is
    left to whoever knows more than one module: those of style ``moe``, by their paths.
    """
    left: dict[str, TensorStyle] = {}
    for pattern, style in styles.items():
        for path, module in matching(model, pattern):
            if style == "moe":
                left[path] = style
            elif any(True for _ in module.parameters()):
                parallelize_module(module, mesh, STYLES[style](), src_data_rank=None)
    return left


def check_paths(model: nn.Module, patterns: Iterable[str]) -> None:
    """Raise ``TypeError`` for a path that no module of the unsplit model has."""
    for pattern in patterns:
        if not matching(model, pattern):
            raise TypeError(
                f'Job.split names "{pattern}", but {type(model).__name__} has no module of that '
                "path"
            )


def matching(model: nn.Module, pattern: str) -> list[tuple[str, nn.Module]]:
    """Modules whose path fits ``pattern``, in which ``*`` stands for one component."""
    expression = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
    return [(path, module) for path, module in model.named_modules() if expression.fullmatch(path)]


def tie_again(model: nn.Module, aliases: Mapping[str, str]) -> None:
    """Make tied parameters one again after each of their modules was spread by itself.

    Raises ``TypeError`` where the two were spread differently.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for alias, canonical in aliases.items():
        copy, first = parameters.get(alias), parameters.get(canonical)
        if copy is None or first is None or copy is first:
            continue
        if _placements(copy) != _placements(first):
            raise TypeError(
                f"{alias} and {canonical} are one parameter, but Job.split spreads them as "
                f"{_placements(copy)} and {_placements(first)}"
            )
        path, _, attribute = alias.rpartition(".")
        setattr(model.get_submodule(path), attribute, first)


def _placements(parameter: Tensor) -> Any:
    return parameter.placements if isinstance(parameter, DTensor) else "not at all"
