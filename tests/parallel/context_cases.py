"""Attention and counting over sequences in pieces, on the ranks of a process group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.parallel.context import (
    Context,
    cut_sequence,
    inside,
    sequence_counts,
    whole_length,
)
from orchestrator.parallel.context_attention import use_context_attention
from orchestrator.parallel.recompute import recompute


class Block(nn.Module):
    """Attention between two projections; ``kv_heads`` may be fewer than ``heads``."""

    def __init__(self, heads: int, kv_heads: int, dim: int, causal: bool) -> None:
        super().__init__()
        self.dim, self.causal, self.grouped = dim, causal, heads != kv_heads
        self.q = nn.Linear(heads * dim, heads * dim)
        self.kv = nn.Linear(heads * dim, 2 * kv_heads * dim)
        self.o = nn.Linear(heads * dim, heads * dim)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (-1, self.dim)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (-1, self.dim)).transpose(1, 2).chunk(2, 1)
        out = F.scaled_dot_product_attention(
            q, k, v, is_causal=self.causal, enable_gqa=self.grouped
        )
        return x + self.o(out.transpose(1, 2).flatten(2))


def build(kv_heads: int, causal: bool) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Two blocks, their input and a weight for every element of their output."""
    torch.manual_seed(3)
    model = nn.Sequential(*[Block(4, kv_heads, 8, causal) for _ in range(2)]).double()
    x = torch.randn(3, 16, 32, dtype=torch.float64)
    return model, x, torch.randn_like(x)


def attention_case(kv_heads: int, causal: bool, mode: str) -> dict[str, float]:
    """How far outputs and gradients of pieces are from those of whole sequences."""
    rank, degree = dist.get_rank(), dist.get_world_size()
    model, x, weight = build(kv_heads, causal)
    x.requires_grad_()
    whole = model(x)
    (whole * weight).sum().backward()
    expected = [p.grad for p in model.parameters()]
    pieces, p_x = build(kv_heads, causal)[:2]
    use_context_attention(pieces, dist.group.WORLD, degree, rank)
    recompute(pieces, mode)
    dims = {"x": 1, "weight": 1, "out": 1, "gradient": 1}
    cut = cut_sequence(
        {"x": p_x, "weight": weight, "out": whole, "gradient": x.grad}, dims, rank, degree
    )
    mine = cut["x"].clone().requires_grad_()
    out = pieces(mine)
    (out * cut["weight"]).sum().backward()
    for parameter in pieces.parameters():
        dist.all_reduce(parameter.grad)
    return {
        "output": _distance(out, cut["out"]),
        "input": _distance(mine.grad, cut["gradient"]),
        "parameters": max(
            _distance(p.grad, e) for p, e in zip(pieces.parameters(), expected, strict=True)
        ),
    }


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def outside_case() -> bool:
    """Whether attention outside the blocks is what it was, although blocks inside were changed."""
    model, x, _ = build(2, True)
    before = model(x)
    other = build(2, True)[0]
    use_context_attention(model, dist.group.WORLD, dist.get_world_size(), dist.get_rank())
    return torch.equal(other(x), before)


def refused_case(kind: str) -> str:
    """What attention says to arguments that cannot be cut along the sequence."""
    q = torch.randn(1, 2, 4, 8)
    keys = torch.randn(1, 2, 4 if kind == "mask" else 6, 8)
    mask = torch.ones(4, 4, dtype=torch.bool) if kind == "mask" else None

    class Masked(nn.Module):
        def forward(self) -> Tensor:
            return F.scaled_dot_product_attention(q, keys, keys, attn_mask=mask)

    block = Masked()
    use_context_attention([block], dist.group.WORLD, dist.get_world_size(), dist.get_rank())
    try:
        block()
    except TypeError as error:
        return str(error)
    return "not refused"


def autocast_case() -> dict[str, Any]:
    """In bfloat16: the largest distance to whole sequences in bfloat16, and dtypes."""
    rank, degree = dist.get_rank(), dist.get_world_size()
    model, x, weight = build(2, True)
    model, x, weight = model.float(), x.float().requires_grad_(), weight.float()
    pieces = build(2, True)[0].float()
    use_context_attention(pieces, dist.group.WORLD, degree, rank)
    with torch.autocast("cpu", torch.bfloat16):
        whole = model(x)
        mine = cut_sequence({"x": x.detach()}, {"x": 1}, rank, degree)["x"].requires_grad_()
        out = pieces(mine)
    (whole * weight).sum().backward()
    cut = cut_sequence(
        {"weight": weight, "out": whole, "gradient": x.grad},
        {"weight": 1, "out": 1, "gradient": 1},
        rank,
        degree,
    )
    (out * cut["weight"]).sum().backward()
    return {
        "output": _distance(out, cut["out"]),
        "input": _distance(mine.grad, cut["gradient"]),
        "dtype": str(out.dtype),
    }


def counts_case(marks: Tensor) -> tuple[float, float]:
    """How far counts over pieces are from those over whole sequences; ``marks`` are whole."""
    rank, degree = dist.get_rank(), dist.get_world_size()
    before, total = sequence_counts(marks)
    cut = cut_sequence({"marks": marks, "before": before}, {"marks": 1, "before": 1}, rank, degree)
    with inside(Context(dist.group.WORLD, degree, rank)):
        mine, mine_total = sequence_counts(cut["marks"])
        assert whole_length(cut["marks"].shape[1]) == marks.shape[1]
    return (
        float((mine - cut["before"]).abs().max()),
        float((mine_total - total).abs().max()),
    )
