"""How does one step go through a pipeline of stages?

The engine of ranks that hold some of the layers. It is put together like this, on every rank alike
(as ``wrap`` does)::

    aliases = tied_names(model)                               # before the cut
    stages, tied = cut_stages(job, model, layout, settings)   # settings: the plan's Model
    parts = Parts([stage.model for stage in stages], aliases)
    stages = [lay_out(stage) for stage in stages]             # spread, recompute, fully_shard
    engine = PipelineEngine(stages, tied, parts.parameters(), layout, rules, cut_batch)
    copies = uncounted(tied, layout)                          # not counted in the gradient's norm

The StageOf must be what ``fully_shard`` is called on last, because schedules look for FSDP there;
where copies are all there is, DDP goes into ``StageOf.around``. Without either, gradients are not
averaged at all.

Random numbers: every stage is seeded for every micro-batch by its place in the run and the stage,
so they are the same however often a run is resumed, but not those of a model that is not cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from orchestrator.job import Batch, Job
from orchestrator.parallel.engine import CutBatch, Sums, check_loss, computing_in, sums_of
from orchestrator.parallel.figures import Figures
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.pipeline_cut import Tied, cut, tied_over
from orchestrator.parallel.pipeline_layers import stage_indices
from orchestrator.parallel.pipeline_relay import Kind, Relay, kind_of
from orchestrator.parallel.pipeline_schedule import Passes
from orchestrator.parallel.pipeline_stage import Finish, MicroBatch, StageOf
from orchestrator.parallel.pipeline_tied import TiedGradients, check_apart
from orchestrator.parallel.world import seed_all
from orchestrator.plan.model import Model
from orchestrator.plan.pipelining import Schedule, num_stages
from orchestrator.split import Split


@dataclass(frozen=True)
class PipelineRules:
    """What the plan says about steps in a pipeline."""

    schedule: Schedule
    seed: int
    micro_batch: int
    """Samples of one micro-batch."""
    accumulation: int
    """Micro-batches of one step."""
    bf16: bool


def cut_stages(
    job: Job, model: nn.Module, layout: Layout, settings: Model
) -> tuple[tuple[StageOf, ...], tuple[Tied, ...]]:
    """This rank's stages of the Job's model, ascending, and the parameters that stages share.

    ``model`` is used up: stages share its modules. Raises ``InfeasibleError`` where the Job or the
    model cannot be cut so, ``TypeError`` where ``Job.split`` does not describe the model.
    """
    split, degree = job.split() or Split(), layout.mesh.pipeline
    total = num_stages(settings.pipeline_schedule, degree, settings.virtual_stages)
    tied = tied_over(model, split, total)
    check_apart(tied, degree)
    mine = stage_indices(
        layout.coordinate["pipeline"], degree, settings.pipeline_schedule, settings.virtual_stages
    )
    stages = [StageOf(job, cut(model, split, stage, total), stage, total) for stage in mine]
    return tuple(stages), tied


class PipelineEngine:
    """Every rank holds some of the layers; micro-batches are on their way through all ranks.

    Constructing it is a collective of the world.
    """

    def __init__(
        self,
        stages: Sequence[StageOf],
        tied: Sequence[Tied],
        parameters: Mapping[str, nn.Parameter],
        layout: Layout,
        rules: PipelineRules,
        cut_batch: CutBatch | None = None,
    ) -> None:
        self.stages, self.layout, self.rules, self.cut_batch = stages, layout, rules, cut_batch
        self.job, self.device = stages[0].job, layout.world.device
        self.tied = TiedGradients(tied, parameters, layout)
        self.relay = Relay(stages, layout.pipeline_group, self.device)
        self.passes: dict[tuple[Kind, int], Passes] = {}
        self.weighted: bool | None = None
        # NCCL connects a group when it is first used by all; schedules use it pair by pair.
        dist.all_reduce(torch.zeros(1, device=self.device), group=layout.pipeline_group)

    def backward(self, batches: Sequence[Batch], first_sample: int, figures: Figures) -> bool:
        """See ``Engine``. Raises what the Job raises, on the rank where it does."""
        weighted: list[bool] = []

        def finish(outputs: Any, prepared: Batch) -> Tensor:
            loss, weight = check_loss(self.job.criterion(outputs, prepared))
            weighted.append(weight is not None)
            figures.add(loss, self.rules.micro_batch, weight)
            # As in ``WholeEngine``: the exact divisor of weighted losses is known later.
            rules = self.rules
            return loss / (rules.accumulation if weight is None else rules.micro_batch)

        step = self.rules.micro_batch
        tasks = [
            self._task(batch, first_sample + index * step, finish)
            for index, batch in enumerate(batches)
        ]
        self._run(tasks)
        figures.share()
        self.tied.add_up()
        return self._agree(weighted)

    def evaluate(self, batch: Batch, count: int, seed: int) -> Sums:
        """See ``Engine``; batches are of equal size. Only ranks of the last stage know sums."""
        found: Sums = {}

        def finish(outputs: Any, prepared: Batch) -> Tensor:
            size = len(next(iter(prepared.values())))
            if count:
                outputs, prepared = _first(count, size, outputs), _first(count, size, prepared)
                loss = self.job.criterion(outputs, prepared)
                found.update(sums_of(loss, self.job.scores(outputs, prepared), count))
            return torch.zeros(())

        self.relay.run(self._task(batch, seed, finish))
        return found

    def _task(self, batch: Batch, place: int, finish: Finish) -> MicroBatch:
        seed = (self.rules.seed, place)
        seed_all(*seed)  # all stages prepare alike
        prepared = self.job.prepare(batch)
        if self.cut_batch is not None:
            prepared = self.cut_batch(prepared)
        return MicroBatch(prepared, seed, self._computing, finish)

    def _computing(self) -> AbstractContextManager[Any]:
        return computing_in(self.layout.world, self.rules.bf16)

    def _run(self, tasks: Sequence[MicroBatch]) -> None:
        self.relay.finish()
        passes = self._passes(tasks)
        for stage in self.stages:
            stage.work, stage.failure = tasks, None
        try:
            passes.run()
        except Exception:
            failures = [stage.failure for stage in self.stages if stage.failure is not None]
            if not failures:
                raise
            raise failures[0] from None
        finally:
            for stage in self.stages:
                stage.work = ()

    def _passes(self, tasks: Sequence[MicroBatch]) -> Passes:
        kind = kind_of(tasks[0])
        key = (kind, len(tasks))
        if key not in self.passes:
            self._find_shapes(tasks[0])
            self.passes[key] = Passes(
                self.rules.schedule,
                self.stages,
                self.relay.shapes(kind),
                len(tasks),
                self.layout.pipeline_group,
                self.device,
            )
        return self.passes[key]

    def _find_shapes(self, task: MicroBatch) -> None:
        """Send a micro-batch through the stages that leaves no trace."""
        buffers = [buffer for stage in self.stages for buffer in stage.buffers()]
        before = [buffer.clone() for buffer in buffers]
        self.relay.run(MicroBatch(task.prepared, task.seed, task.computing, _nothing))
        self.relay.finish()
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)

    def _agree(self, weighted: Sequence[bool]) -> bool:
        """Whether the last stage saw weighted losses; it always sees the same kind."""
        if self.weighted is None:
            flag = torch.tensor(float(any(weighted)), device=self.device)
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.layout.pipeline_group)
            self.weighted = bool(flag)
        if any(one != self.weighted for one in weighted):
            raise TypeError(
                f"{type(self.job).__name__}.criterion returned both a mean and (total, weight); "
                "it must return the same for every batch"
            )
        return self.weighted


def _nothing(_outputs: Any, _prepared: Batch) -> Tensor:
    return torch.zeros(())


def _first(count: int, size: int, values: Any) -> Any:
    """The first ``count`` of ``size`` samples of all tensors in ``values`` that have samples."""

    def sliced(value: Any) -> Any:
        has_samples = isinstance(value, Tensor) and value.ndim and len(value) == size
        return value[:count] if has_samples else value

    return tree_map(sliced, values)
