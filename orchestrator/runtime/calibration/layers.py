"""What does it cost the host to split a layer, or to compute it again?

Layers on next to nothing, laid out with the wrappers that runs use. Counted is what the thread
itself runs: waiting for an exchange, which the planner asks of the links, is not.
"""

from __future__ import annotations

import time
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from orchestrator.parallel.recompute import recompute
from orchestrator.parallel.tensor import spread_tensors
from orchestrator.planner.calibration.timings import LayerTiming, Split
from orchestrator.planner.cost.case import Recompute
from orchestrator.split import TensorStyle

_LAYERS = 4
_TOKENS, _HIDDEN, _FFN, _HEAD = 16, 32, 64, 8
_ROUNDS, _WARM_UPS = 25, 3

_AGAIN: tuple[Recompute, ...] = ("none", "selective", "full")
_SPLITS: tuple[Split, ...] = ("alone", "tensor", "shard")

_STYLES: dict[str, TensorStyle] = {
    "*.attention_norm": "sequence",
    "*.mlp_norm": "sequence",
    "*.attention": "gather",
    "*.attention.query": "colwise",
    "*.attention.key": "colwise",
    "*.attention.value": "colwise",
    "*.attention.output": "rowwise",
    "*.mlp": "gather",
    "*.mlp.gate": "colwise",
    "*.mlp.up": "colwise",
    "*.mlp.down": "rowwise",
}


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (
            nn.Linear(_HIDDEN, _HIDDEN, bias=False) for _ in range(4)
        )
        angles = torch.randn(_TOKENS, _HEAD)
        self.cosine, self.sine = angles.cos(), angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            each(x).unflatten(-1, (-1, _HEAD)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        turned = F.scaled_dot_product_attention(
            self._turned(query), self._turned(key), value, is_causal=True
        )
        mixed: Tensor = self.output(turned.transpose(1, 2).flatten(2))
        return mixed

    def _turned(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat([-high, low], dim=-1) * self.sine


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(_HIDDEN, _FFN, bias=False) for _ in range(2))
        self.down = nn.Linear(_FFN, _HIDDEN, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return mixed


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.RMSNorm(_HIDDEN), nn.RMSNorm(_HIDDEN)
        self.attention, self.mlp = _Attention(), _Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


def measure_layers(group: dist.ProcessGroup | None) -> tuple[LayerTiming, ...]:
    """Time a layer on this process's processor, whole and recomputed; split only with a ``group``,
    whose ranks all call it together. Medians of the rounds."""
    mesh = DeviceMesh.from_group(group, "cpu") if group is not None else None
    return tuple(
        _timed(again, split, mesh)
        for again in _AGAIN
        for split in _SPLITS
        if mesh is not None or split == "alone"
    )


def _timed(again: Recompute, split: Split, mesh: DeviceMesh | None) -> LayerTiming:
    stack = _laid(again, split, mesh)
    tokens = _TOKENS // mesh.size() if mesh is not None and split == "tensor" else _TOKENS
    x = torch.randn(1, tokens, _HIDDEN)
    forward, both = [], []
    for _ in range(_WARM_UPS + _ROUNDS):
        stack.zero_grad(set_to_none=True)
        begun = time.thread_time()
        loss = stack(x).sum()
        forward.append(time.thread_time() - begun)
        loss.backward()
        both.append(time.thread_time() - begun)
    return LayerTiming(again, split, _of_a_layer(both), _of_a_layer(forward))


def _laid(again: Recompute, split: Split, mesh: DeviceMesh | None) -> nn.Module:
    """Layers as a run lays them out, in its order."""
    torch.manual_seed(0)
    stack = nn.Sequential(*(_Layer() for _ in range(_LAYERS)))
    if mesh is not None and split == "tensor":
        spread_tensors(stack, _STYLES, mesh)
    recompute(stack.children(), again)
    if mesh is not None and split == "shard":
        for layer in stack:
            fully_shard(layer, mesh=mesh)
        fully_shard(stack, mesh=mesh)
    return stack


def _of_a_layer(times: list[float]) -> float:
    return median(times[_WARM_UPS:]) / _LAYERS
