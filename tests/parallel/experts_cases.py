"""Experts spread over the ranks of a process group, beside the same ones on one rank."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import parallelize_module

from orchestrator.parallel.experts import expert_placements, spread_experts
from orchestrator.parallel.experts_tensor import MoEParallel
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.recompute import recompute
from orchestrator.parallel.world import current_world
from orchestrator.plan.mesh import Mesh

WIDTH, NUM_EXPERTS = 6, 4


class Experts(nn.Module):
    """Plain torch: what a Job brings."""

    hidden_dims = {"up": 1, "down": 2}

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(NUM_EXPERTS, 8, WIDTH))
        self.down = nn.Parameter(torch.randn(NUM_EXPERTS, WIDTH, 8))

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        parts = tokens.split(counts.tolist())
        return torch.cat(
            [(x @ u.T).tanh() @ d.T for x, u, d in zip(parts, self.up, self.down, strict=True)]
        )


class Mixture(nn.Module):
    """Routes each token to its best expert; also returns a balance loss per sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, NUM_EXPERTS)
        self.experts = Experts()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        odds = self.router(x).softmax(-1)
        weight, chosen = odds.flatten(0, 1).max(-1)
        order = chosen.argsort(stable=True)
        out = self.experts(x.flatten(0, 1)[order], chosen.bincount(minlength=NUM_EXPERTS))
        y = torch.empty_like(out).index_copy(0, order, out).view_as(x)
        return y * weight.view(*x.shape[:2], 1), odds.square().mean((1, 2))


class Layered(nn.Module):
    """Two mixtures in a row, whose balance losses add up."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixture() for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        balance = x.new_zeros(x.shape[0])
        for layer in self.layers:
            y, more = layer(x)
            x, balance = x + y, balance + more
        return x, balance


def exchange_case(by_rank: list[list[int]], mode: str) -> dict[str, float]:
    """Distances to unsplit experts, where rank ``r`` has ``by_rank[r][e]`` tokens for ``e``."""
    rank, degree = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    whole = Experts().double()
    spread = copy.deepcopy(whole)
    tokens = [torch.randn(sum(c), WIDTH, dtype=torch.float64) for c in by_rank]
    expected = []
    for each, counts in zip(tokens, by_rank, strict=True):
        each.requires_grad_()
        expected.append(whole(each, torch.tensor(counts)))
        (expected[-1].square().sum() / degree).backward()
    spread_experts(spread, init_device_mesh("cpu", (degree,), mesh_dim_names=("expert",)))
    recompute([spread], mode)
    mine = tokens[rank].detach().clone().requires_grad_()
    out = spread(mine, torch.tensor(by_rank[rank]))
    (out.square().sum()).backward()
    return {
        "output": _distance(out, expected[rank]),
        "tokens": _distance(mine.grad / degree, tokens[rank].grad),
        **_distances(spread, whole),
    }


def mixture_case(mesh: Mesh, mode: str) -> dict[str, float]:
    """Distances to one process for a model whose batch, experts and matrices are all split."""
    layout = Layout(mesh, current_world())
    torch.manual_seed(1)
    whole = Layered().double()
    spread = copy.deepcopy(whole)
    x = torch.randn(mesh.batch_degree, 3, 4, WIDTH, dtype=torch.float64)
    expected = [_loss(whole, each) for each in x]
    (sum(expected) / len(expected)).backward()
    _lay(spread, layout, mode)
    coordinate = layout.coordinate
    index = coordinate["replicate"] * mesh.shard + coordinate["shard"]
    piece = x[index].chunk(mesh.tensor, 1)[coordinate["tensor"]]
    y, balance = spread(piece)
    loss = _Sum.apply(y.square().sum(), layout.tensor.get_group()) + balance.sum()
    loss.backward()
    return {"loss": _distance(loss, expected[index]), **_distances(spread, whole)}


def _loss(model: nn.Module, x: Tensor) -> Tensor:
    y, balance = model(x)
    total: Tensor = y.square().sum() + balance.sum()
    return total


class _Sum(torch.autograd.Function):
    """The sum over ranks, of which each has a part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = part.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _lay(model: Layered, layout: Layout, mode: str) -> None:
    """What the wrapper does, for the parts that matter here."""
    mesh = layout.mesh
    for layer in model.layers:
        if mesh.tensor > 1:
            parallelize_module(layer, layout.tensor, MoEParallel([layer.experts]))
        if mesh.expert > 1 and mesh.tensor > 1:
            spread_experts(layer.experts, layout.sparse["expert", "tensor"])
        elif mesh.expert > 1:
            spread_experts(layer.experts, layout.sparse["expert"])
        elif mesh.tensor > 1:
            spread_experts(layer.experts, layout.tensor)
    recompute(model.layers, mode)
    for layer in model.layers:
        if mesh.expert > 1:
            over = layout.expert_sharding
            where = expert_placements(layer.experts, over.size(over.ndim - 1))
            fully_shard(layer.experts, mesh=over, shard_placement_fn=where)
        fully_shard(layer, mesh=layout.sharding)
    fully_shard(model, mesh=layout.sharding)


def _distances(spread: nn.Module, whole: nn.Module) -> dict[str, float]:
    """Of every parameter and its gradient, put together again."""
    found = {}
    pairs = zip(spread.named_parameters(), whole.parameters(), strict=True)
    for (name, parameter), expected in pairs:
        assert parameter.grad is not None, name
        found[name] = _distance(_full(parameter), expected)
        found[f"gradient of {name}"] = _distance(_full(parameter.grad), expected.grad)
    return found


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _distance(a: Tensor, b: Tensor) -> float:
    if a.numel() == 0:
        return 0.0 if a.shape == b.shape else float("inf")
    return float((a - b).detach().abs().max() / b.detach().abs().max().clamp(min=1e-12))


def refused_case(kind: str) -> str:
    """What is said of experts that cannot be spread so."""
    torch.manual_seed(0)
    experts = Experts()
    degree = dist.get_world_size()
    names = {"hidden": "tensor", "size": "expert", "mesh": "shard"}
    mesh = init_device_mesh("cpu", (degree,), mesh_dim_names=(names[kind],))
    if kind == "hidden":
        experts.hidden_dims = {"up": 1}
    try:
        spread_experts(experts, mesh)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


def miscounted_case() -> str:
    """What is said of counts that are not those of the tokens."""
    experts = Experts()
    degree = dist.get_world_size()
    spread_experts(experts, init_device_mesh("cpu", (degree,), mesh_dim_names=("expert",)))
    try:
        experts(torch.zeros(3, WIDTH), torch.tensor([1, 1, 0, 0]))
    except ValueError as error:
        return str(error)
    return "not refused"


def strides_case() -> dict[str, tuple[int, ...]]:
    """Strides of parameters of which every rank has a part of one expert."""
    experts = Experts()
    mesh = init_device_mesh("cpu", (4, 1), mesh_dim_names=("expert", "tensor"))
    narrow = init_device_mesh("cpu", (2, 2), mesh_dim_names=("expert", "tensor"))
    spread_experts(experts, mesh)
    few = Experts()
    for name, parameter in list(few.named_parameters()):
        setattr(few, name, nn.Parameter(parameter.detach()[:2].clone()))
    spread_experts(few, narrow)
    both = {"many": experts, "few": few}
    return {f"{n}.{k}": p.stride() for n, e in both.items() for k, p in e.named_parameters()}
