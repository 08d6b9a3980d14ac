"""Which process groups does a mesh need, and which of them is this rank in?

Turns the plan's degrees into torch's device meshes. Ranks are laid out as in ``plan.mesh``:
row-major over pipeline, replicate, shard, context, tensor. Knows nothing of models.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import _set_pg_timeout

from orchestrator.parallel.world import COLLECTIVE_TIMEOUT_SECONDS, World
from orchestrator.plan.mesh import Mesh, coordinate_of


class Layout:
    """One rank's view of the mesh. Every rank of the world must ask for the same things in the
    same order, because making a group is a collective."""

    def __init__(self, mesh: Mesh, world: World) -> None:
        self.mesh, self.world = mesh, world
        self.coordinate = coordinate_of(mesh, world.rank)

    @property
    def num_averaged(self) -> int:
        """Ranks over which gradients are averaged: they hold the same parameters, and compute
        other samples or other pieces of a sequence."""
        return self.mesh.batch_degree * self.mesh.context

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank holds the end of the pipeline, where the loss is computed."""
        return self.coordinate["pipeline"] == self.mesh.pipeline - 1

    @cached_property
    def dense(self) -> DeviceMesh:
        """All ranks as ``(pipeline, replicate, shard, tensor)``; ``shard`` takes the ranks of
        ``context`` in, which hold the same parameters as those of ``shard``."""
        mesh = self.mesh
        sizes = (mesh.pipeline, mesh.replicate, mesh.shard * mesh.context, mesh.tensor)
        return self._mesh(sizes, ("pipeline", "replicate", "shard", "tensor"))

    @property
    def sharding(self) -> DeviceMesh:
        """What dense parameters are sharded over, and copied over: HSDP's two dimensions, or one
        where there are no copies."""
        if self.mesh.replicate == 1:
            return self.dense["shard"]
        return self.dense["replicate", "shard"]

    @property
    def tensor(self) -> DeviceMesh:
        """The ranks among which this rank's matrices are split."""
        return self.dense["tensor"]

    @property
    def expert_shard(self) -> int:
        """Over how many ranks an expert's parameters are sharded: as many whole groups of
        ``expert`` ranks as fit into shard·context; beyond that experts are copied."""
        sharded = self.mesh.shard * self.mesh.context
        return sharded // self.mesh.expert if sharded % self.mesh.expert == 0 else 1

    @cached_property
    def sparse(self) -> DeviceMesh:
        """All ranks as ``(pipeline, expert_replicate, expert_shard, expert, tensor)``; ``expert``
        takes neighbouring ranks out of replicate·shard·context."""
        mesh = self.mesh
        copies = self.num_averaged // (mesh.expert * self.expert_shard)
        sizes = (mesh.pipeline, copies, self.expert_shard, mesh.expert, mesh.tensor)
        return self._mesh(
            sizes, ("pipeline", "expert_replicate", "expert_shard", "expert", "tensor")
        )

    @property
    def expert_sharding(self) -> DeviceMesh:
        """What a rank's experts are sharded and copied over."""
        if self.num_averaged == self.mesh.expert * self.expert_shard:
            return self.sparse["expert_shard"]
        return self.sparse["expert_replicate", "expert_shard"]

    @cached_property
    def _grid(self) -> DeviceMesh:
        mesh = self.mesh
        sizes = (mesh.pipeline, mesh.batch_degree, mesh.context, mesh.tensor)
        return self._mesh(sizes, ("pipeline", "batch", "context", "tensor"))

    @property
    def context_group(self) -> dist.ProcessGroup:
        """The ranks that hold the other pieces of this rank's sequences."""
        return self._grid.get_group("context")

    @property
    def pipeline_group(self) -> dist.ProcessGroup:
        """The ranks that hold the other stages of this rank's model."""
        return self.dense.get_group("pipeline")

    def _mesh(self, sizes: tuple[int, ...], names: tuple[str, ...]) -> DeviceMesh:
        """A device mesh whose groups wait as long as the world's do, not torch's half hour."""
        mesh = init_device_mesh(self.world.device.type, sizes, mesh_dim_names=names)
        for group in mesh.get_all_groups():
            _set_pg_timeout(timedelta(seconds=COLLECTIVE_TIMEOUT_SECONDS), group)
        return mesh
