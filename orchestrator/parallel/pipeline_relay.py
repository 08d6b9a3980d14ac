"""How does one micro-batch run forward through all stages, and of what shape is what they hand on?

The schedules of training need shapes beforehand and run backward passes. Here shapes travel with
the first micro-batch, and later ones of the same kind find them known. Nobody waits for the end
of the pipeline, so that one micro-batch after the other fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator.parallel.pipeline_stage import MicroBatch, StageOf

FIRST = torch.zeros(1, dtype=torch.int64)
"""The number of a micro-batch that is alone."""


@dataclass(frozen=True)
class HandedOn:
    """What a stage hands on: shape and dtype of each tensor, and how many of them a block has."""

    tensors: tuple[tuple[torch.Size, torch.dtype], ...]
    from_block: int

    def empty(self, device: torch.device | str) -> tuple[Tensor, ...]:
        """Room for it. What floats requires gradients on ``meta``, where schedules ask for it."""
        return tuple(
            torch.empty(
                shape,
                dtype=dtype,
                device=device,
                requires_grad=device == "meta" and dtype.is_floating_point,
            )
            for shape, dtype in self.tensors
        )


Kind = tuple[tuple[str, torch.Size, torch.dtype], ...]
"""Names, shapes and dtypes of a prepared batch, which decide those of all activations."""


def kind_of(task: MicroBatch) -> Kind:
    """The kind of a micro-batch."""
    return tuple((name, t.shape, t.dtype) for name, t in sorted(task.prepared.items()))


class Relay:
    """Runs forward passes through the stages that this rank and those of ``group`` hold."""

    def __init__(
        self, stages: Sequence[StageOf], group: dist.ProcessGroup, device: torch.device
    ) -> None:
        self.stages, self.group, self.device = stages, group, device
        self.rank, self.degree = dist.get_rank(group), dist.get_world_size(group)
        self.known: dict[Kind, dict[int, HandedOn]] = {}
        self.sends: dict[int, tuple[list[dist.Work], tuple[Tensor, ...]]] = {}

    def shapes(self, kind: Kind) -> Mapping[int, HandedOn]:
        """What is handed on by this rank's stages and those before them, by stage."""
        return self.known[kind]

    @torch.no_grad()
    def run(self, task: MicroBatch) -> None:
        """One forward pass; what comes of it is told to ``task.finish`` on the last stage."""
        known = self.known.setdefault(kind_of(task), {})
        for stage in self.stages:
            received = () if stage.is_first else self._receive(stage, known)
            stage.work = [task]
            if stage.index in known or stage.is_last:
                outputs = stage(*received, micro_batch=FIRST)
            else:
                outputs = self._learn(stage, received, known)
            stage.work = []
            if not stage.is_last:
                self._send(stage, outputs)

    def finish(self) -> None:
        """Wait until everything was taken over by the stages after."""
        for index in list(self.sends):
            self._wait(index)

    def _learn(
        self, stage: StageOf, received: tuple[Tensor, ...], known: dict[int, HandedOn]
    ) -> tuple[Tensor, ...]:
        with stage.learning():
            outputs: tuple[Tensor, ...] = stage(*received, micro_batch=FIRST)
        facts = HandedOn(tuple((t.shape, t.dtype) for t in outputs), stage.num_tensors)
        known[stage.index] = facts
        dist.send_object_list([facts], group=self.group, group_dst=self._peer(1), **self._on())
        return outputs

    def _receive(self, stage: StageOf, known: dict[int, HandedOn]) -> tuple[Tensor, ...]:
        before = stage.index - 1
        if before not in known:
            facts: list[Any] = [None]
            dist.recv_object_list(facts, group=self.group, group_src=self._peer(-1), **self._on())
            known[before] = facts[0]
            stage.num_tensors = facts[0].from_block
        received = known[before].empty(self.device)
        for tensor in received:
            dist.recv(tensor, group=self.group, group_src=self._peer(-1))
        return received

    def _send(self, stage: StageOf, outputs: tuple[Tensor, ...]) -> None:
        self._wait(stage.index)
        works = [
            dist.isend(tensor, group=self.group, group_dst=self._peer(1)) for tensor in outputs
        ]
        self.sends[stage.index] = ([work for work in works if work is not None], outputs)

    def _wait(self, index: int) -> None:
        works, _ = self.sends.pop(index, ([], ()))
        for work in works:
            work.wait()

    def _peer(self, step: int) -> int:
        return (self.rank + step) % self.degree

    def _on(self) -> dict[str, Any]:
        """Objects travel by way of the device where there is no other way (NCCL)."""
        return {"device": self.device} if self.device.type == "cuda" else {}
