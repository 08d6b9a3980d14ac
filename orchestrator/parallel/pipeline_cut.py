"""What does a stage keep of a model, and which parameters do several stages hold?

A stage is the whole model in which the modules of other stages hand on what they are given: its
``forward`` is that of the Job's model, and parameters keep their names. Knows no schedule and no
process group.

What the model's ``forward`` does outside of the modules that ``Job.split`` names is done by every
stage. It must therefore change nothing where it is given the outputs of a stage instead of the
model's inputs: ``x = self.embed(tokens)`` is right, and so is ``if aux is None: aux = …``;
``x = tokens / 255`` belongs into a module of ``first``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from orchestrator.errors import InfeasibleError
from orchestrator.parallel.pipeline_layers import blocks_of
from orchestrator.parallel.tensor import matching
from orchestrator.split import Split


class PassThrough(nn.Module):
    """Stands where another stage has a module; has no parameters.

    In place of a module of ``first`` or ``last`` it returns its first argument. A block takes
    and returns the same leading tensors, one or several: in its place the first ``num_tensors``
    arguments are returned. How many they are is learnt from a block that does compute.
    """

    def __init__(self, path: str, is_block: bool) -> None:
        super().__init__()
        self.path, self.is_block = path, is_block
        self.num_tensors = 1

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The leading arguments as they are. Raises ``TypeError`` where they have names."""
        if len(arguments) < self.num_tensors:
            raise TypeError(
                f"{self.path} belongs to another pipeline stage and must hand on "
                f"{self.num_tensors} leading arguments, but it was called with {len(arguments)} "
                f"arguments without a name, and {sorted(named)}"
            )
        return arguments[0] if self.num_tensors == 1 else arguments[: self.num_tensors]

    def extra_repr(self) -> str:
        """Whose place it takes."""
        return self.path


@dataclass(frozen=True)
class Tied:
    """One parameter that several stages hold, by its canonical name; ``stages`` ascend."""

    name: str
    stages: tuple[int, ...]


def cut(model: nn.Module, split: Split, stage: int, num_stages: int) -> nn.Module:
    """What stage ``stage`` of ``num_stages`` keeps of ``model``.

    Containers are copied; modules with parameters are those of ``model`` themselves, so that no
    parameter is copied and those of other stages can be freed with ``model``. Raises
    ``InfeasibleError`` where the model cannot be cut so far, and ``TypeError`` where ``split`` does
    not describe it.
    """
    owners = _owners(model, split, num_stages)
    _check_all_named(model, split, owners)
    kept = {id(module) for _, module, owner in owners if owner == stage}
    blocks = {id(block) for block in _blocks(model, split)}
    # deepcopy takes what it finds here for the copy.
    memo: dict[int, Any] = {}
    for path, module, _ in owners:
        here = id(module) in kept
        memo[id(module)] = module if here else PassThrough(path, id(module) in blocks)
    return copy.deepcopy(model, memo)


def tied_over(model: nn.Module, split: Split, num_stages: int) -> tuple[Tied, ...]:
    """The parameters of an unsplit model that stages share, by the names of the first."""
    owners = _owners(model, split, num_stages)
    held: dict[int, set[int]] = {}
    for _, module, owner in owners:
        for parameter in module.parameters():
            held.setdefault(id(parameter), set()).add(owner)
    return tuple(
        Tied(name, tuple(sorted(held[id(parameter)])))
        for name, parameter in model.named_parameters()
        if len(held.get(id(parameter), ())) > 1
    )


def pass_throughs(model: nn.Module) -> Iterator[PassThrough]:
    """The places of blocks that other stages have."""
    return (m for m in model.modules() if isinstance(m, PassThrough) and m.is_block)


def _owners(
    model: nn.Module, split: Split, num_stages: int
) -> Sequence[tuple[str, nn.Module, int]]:
    """Paths and modules that ``split`` names, each with the stage that computes it."""
    blocks = _blocks(model, split)
    if len(blocks) < num_stages:
        raise InfeasibleError(
            f"{len(blocks)} blocks ({split.blocks}) cannot fill {num_stages} pipeline stages; "
            f"at most {len(blocks)} stages (model.pipeline, times model.virtual_stages where "
            "the schedule is interleaved) would do"
        )
    stage_of = {b: s for s in range(num_stages) for b in blocks_of(s, num_stages, len(blocks))}
    owners = [(f"{split.blocks}.{i}", block, stage_of[i]) for i, block in enumerate(blocks)]
    owners += [(path, module, 0) for path, module in _named(model, split.first)]
    owners += [(path, module, num_stages - 1) for path, module in _named(model, split.last)]
    return owners


def _named(model: nn.Module, patterns: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    for pattern in patterns:
        yield from matching(model, pattern)


def _blocks(model: nn.Module, split: Split) -> list[nn.Module]:
    kind = type(model).__name__
    if not split.blocks:
        raise InfeasibleError(
            f"model.pipeline cuts a model between its blocks, but Job.split names none of {kind}; "
            "model.pipeline=1 works, and so does Split(blocks=…, num_blocks=…, first=…, last=…)"
        )
    ((_, container),) = matching(model, split.blocks)
    if not isinstance(container, (nn.ModuleList, nn.Sequential)):
        raise TypeError(
            f"Job.split: blocks={split.blocks!r} is a {type(container).__name__}, not a ModuleList "
            "or a Sequential"
        )
    blocks = list(container)
    if split.num_blocks != len(blocks):
        raise TypeError(
            f"Job.split says num_blocks={split.num_blocks}, but {split.blocks} of {kind} has "
            f"{len(blocks)}"
        )
    return blocks


def _check_all_named(
    model: nn.Module, split: Split, owners: Sequence[tuple[str, nn.Module, int]]
) -> None:
    """Every parameter must have a stage: nobody would train those of no stage."""
    named = {id(p) for _, module, _ in owners for p in module.parameters()}
    lost = [name for name, p in model.named_parameters() if id(p) not in named]
    if lost:
        more = f" and {len(lost) - 3} more parameters" if len(lost) > 3 else ""
        raise TypeError(
            f"{', '.join(lost[:3])}{more} of {type(model).__name__} belong to no pipeline stage: "
            f"Job.split names blocks={split.blocks!r}, first={tuple(split.first)}, "
            f"last={tuple(split.last)}"
        )
