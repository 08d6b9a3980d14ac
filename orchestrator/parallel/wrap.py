"""How is a model laid over the mesh?

From the inside out: cut into pipeline stages, matrices spread over tensor ranks, experts over
expert ranks, blocks recomputed, attention over the pieces of a sequence, and parameters sharded
or copied. Each is a module of its own; here is their order. The step and the loop need not know
which dimensions there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor.parallel import parallelize_module
from torch.nn.parallel import DistributedDataParallel

from orchestrator.job import Job
from orchestrator.parallel.context import cut_sequence
from orchestrator.parallel.context_attention import use_context_attention
from orchestrator.parallel.engine import CutBatch, Engine, LossOf, WholeEngine
from orchestrator.parallel.experts import expert_placements, spread_experts
from orchestrator.parallel.experts_tensor import MoEParallel
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.pipeline import PipelineEngine, PipelineRules, cut_stages
from orchestrator.parallel.pipeline_cut import Tied
from orchestrator.parallel.pipeline_stage import StageOf
from orchestrator.parallel.pipeline_tied import uncounted
from orchestrator.parallel.recompute import recompute
from orchestrator.parallel.tensor import check_paths, matching, spread_tensors, tie_again
from orchestrator.plan.model import Model
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import BatchShape
from orchestrator.split import Split

BUCKET_MEBIBYTES = 25
"""Gradients are averaged in pieces of this size, while the rest are still being computed."""


@dataclass(frozen=True)
class Laid:
    """A model that lies over the mesh.

    ``modules`` are to be called: the whole model with its loss, or this rank's pipeline stages.
    ``parts`` hold the parameters by name, ``tied`` those that several stages share.
    """

    modules: tuple[nn.Module, ...]
    parts: Parts
    tied: tuple[Tied, ...] = ()


def lay(job: Job, model: nn.Module, layout: Layout, settings: Model) -> Laid:
    """Lay the Job's model, the same on every rank, over the mesh. A collective.

    ``model`` is used up. Raises ``TypeError`` where the Job's split does not describe its model,
    ``InfeasibleError`` where the model cannot be cut so far.
    """
    split = job.split() or Split()
    check_paths(model, [*split.tensor, *([split.experts] if split.experts else [])])
    aliases = tied_names(model)
    tied: tuple[Tied, ...] = ()
    roots: Sequence[LossOf | StageOf]
    if layout.mesh.pipeline > 1:
        roots, tied = cut_stages(job, model, layout, settings)
    else:
        roots = [LossOf(job, model, batch_cutter(split, layout))]
    parts = Parts([root.model for root in roots], aliases)
    modules = [_lay_root(root, split, layout, settings, parts) for root in roots]
    return Laid(tuple(modules), parts, tied)


def batch_cutter(split: Split, layout: Layout) -> CutBatch | None:
    """Takes this rank's pieces of the sequences out of a prepared batch, where it has pieces."""
    degree = layout.mesh.context
    if degree == 1:
        return None
    rank = layout.coordinate["context"]
    return partial(cut_sequence, dims=split.sequence, rank=rank, degree=degree)


def build_engine(laid: Laid, job: Job, layout: Layout, plan: Plan, shape: BatchShape) -> Engine:
    """What takes forward and backward passes of a model that was laid over the mesh. A
    collective."""
    bf16 = plan.training.precision == "bf16"
    if layout.mesh.pipeline == 1:
        (module,) = laid.modules
        micro, times = shape.micro_batch, shape.accumulation
        return WholeEngine(module, layout.world, plan.seed, micro, times, bf16)
    rules = PipelineRules(
        plan.model.pipeline_schedule, plan.seed, shape.micro_batch, shape.accumulation, bf16
    )
    stages = [module for module in laid.modules if isinstance(module, StageOf)]
    cut = batch_cutter(job.split() or Split(), layout)
    return PipelineEngine(stages, laid.tied, laid.parts.parameters(), layout, rules, cut)


def uncounted_in(laid: Laid, layout: Layout) -> frozenset[str]:
    """Names of tied parameters that an earlier pipeline stage counts in the gradient's norm."""
    return uncounted(laid.tied, layout)


def _lay_root(
    root: LossOf | StageOf, split: Split, layout: Layout, settings: Model, parts: Parts
) -> nn.Module:
    blocks = blocks_of(root.model, split)
    _spread(root.model, split, layout, parts)
    if layout.mesh.context > 1:
        rank = layout.coordinate["context"]
        use_context_attention(blocks, layout.context_group, layout.mesh.context, rank)
    recompute(blocks, settings.activation_checkpoint)
    experts = _experts_of(root.model, split) if layout.mesh.expert > 1 else []
    return _share(root, blocks, experts, layout)


def blocks_of(model: nn.Module, split: Split) -> list[nn.Module]:
    """The layers that this rank holds."""
    if not split.blocks:
        return []
    blocks = model.get_submodule(split.blocks).children()
    return [block for block in blocks if any(True for _ in block.parameters())]


def _spread(model: nn.Module, split: Split, layout: Layout, parts: Parts) -> None:
    """Spread matrices over tensor ranks, and experts over expert and tensor ranks."""
    mesh = layout.mesh
    if mesh.tensor == mesh.expert == 1:
        return
    experts = _experts_of(model, split)
    if mesh.tensor > 1:
        mixtures = spread_tensors(model, split.tensor, layout.tensor)
        tie_again(model, parts.aliases)
        for path in mixtures:
            style = MoEParallel(experts)
            parallelize_module(model.get_submodule(path), layout.tensor, style)
    for module in experts:
        spread_experts(module, _expert_mesh(layout))


def _experts_of(model: nn.Module, split: Split) -> list[nn.Module]:
    return [module for _, module in matching(model, split.experts)] if split.experts else []


def _expert_mesh(layout: Layout) -> DeviceMesh:
    if layout.mesh.expert == 1:
        return layout.tensor
    return layout.sparse["expert", "tensor"] if layout.mesh.tensor > 1 else layout.sparse["expert"]


def _share(
    root: nn.Module, blocks: Sequence[nn.Module], experts: Sequence[nn.Module], layout: Layout
) -> nn.Module:
    """Shard parameters, or copy them, over the ranks that compute other samples."""
    mesh = layout.mesh
    if layout.num_averaged == 1:
        return root
    if mesh.size == mesh.replicate * mesh.pipeline and mesh.expert == 1:
        return _copy(root, layout)
    # In a pipeline each micro-batch would gather them anew. What lies around the blocks is needed
    # again first of all in the backward pass, and stays, which is torch's default (None).
    shard = partial(fully_shard, reshard_after_forward=False if mesh.pipeline > 1 else None)
    for module in experts:
        placements = expert_placements(module, layout.expert_shard)
        shard(module, mesh=layout.expert_sharding, shard_placement_fn=placements)
    for block in blocks:
        shard(block, mesh=layout.sharding)
    shard(root, mesh=layout.sharding)
    return root


def _copy(root: nn.Module, layout: Layout) -> nn.Module:
    """Have DDP average gradients, which overlaps with the backward pass, where copies are all
    there is."""
    copies = DistributedDataParallel(
        root,
        process_group=layout.dense.get_group("replicate") if layout.mesh.pipeline > 1 else None,
        bucket_cap_mb=BUCKET_MEBIBYTES,
        gradient_as_bucket_view=True,
    )
    if not isinstance(root, StageOf):
        return copies
    root.around = (copies,)
    return root


def agree_on_buffers(modules: Iterable[nn.Module], layout: Layout) -> None:
    """Give every rank that holds the same layers the buffers of the first of them.

    They are not averaged with the gradients (running means of a batch norm, and the like), and
    each worker has moved its own since the last forward pass. Their values depend on the
    micro-batches, and so may what they do to the loss.
    """
    buffers = [buffer for module in modules for buffer in module.buffers()]
    if layout.num_averaged == 1 or not buffers:
        return
    for buffer in buffers:
        for dimension in ("shard", "replicate"):
            group = layout.dense.get_group(dimension)
            dist.broadcast(buffer, group=group, group_src=0)


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """The modules in evaluation mode; afterwards in training mode and sharded again."""
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module in modules:
            module.train()
            for part in module.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()
