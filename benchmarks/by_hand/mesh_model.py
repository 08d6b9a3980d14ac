"""Copying, sharding and splitting a Llama by hand, with torch's own tools.

DDP; FSDP2 layer by layer, on one dimension or two (HSDP); tensor parallelism whose activations
between blocks are pieces of the sequence, with FSDP2 around it. The ways are those of torch's
tutorials and of torchtitan.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from jobs.llama import Llama


def copied(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """DDP over a mesh of one dimension."""
    return DistributedDataParallel(
        model, process_group=mesh.get_group(), gradient_as_bucket_view=True
    )


def sharded(model: Llama, mesh: DeviceMesh) -> nn.Module:
    """FSDP2 of each layer and of the rest; over two dimensions parameters are sharded along the
    second and copied along the first."""
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def spread(model: Llama, mesh: DeviceMesh) -> Llama:
    """Tensor and sequence parallelism over a mesh of one dimension."""
    parallelize_module(
        model,
        mesh,
        {
            "model.embed_tokens": RowwiseParallel(
                input_layouts=Replicate(), output_layouts=Shard(1)
            ),
            "model.norm": SequenceParallel(),
            "lm_head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
        },
    )
    for layer in model.model.layers:
        parallelize_module(
            layer,
            mesh,
            {
                "input_layernorm": SequenceParallel(),
                "self_attn": PrepareModuleInput(
                    input_layouts=(Shard(1), None, None, None),
                    desired_input_layouts=(Replicate(), None, None, None),
                ),
                "self_attn.q_proj": ColwiseParallel(),
                "self_attn.k_proj": ColwiseParallel(),
                "self_attn.v_proj": ColwiseParallel(),
                "self_attn.o_proj": RowwiseParallel(output_layouts=Shard(1)),
                "post_attention_layernorm": SequenceParallel(),
                "mlp": PrepareModuleInput(
                    input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
                ),
                "mlp.gate_proj": ColwiseParallel(),
                "mlp.up_proj": ColwiseParallel(),
                "mlp.down_proj": RowwiseParallel(output_layouts=Shard(1)),
            },
        )
    return model
