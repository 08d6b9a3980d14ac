"""How fast does one worker compute? Matrix products, attention, and the kernels between them.

The shapes are of layers in general and of no model in particular. All workers of a node measure
at the same time, for in a run they share its memory and its clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.planner.calibration.timings import (
    AttentionTiming,
    KernelTiming,
    Precision,
    ProductTiming,
    WorkerTimings,
)
from orchestrator.planner.cost.constants import HOST_OPERATIONS_DENSE
from orchestrator.runtime.calibration.stopwatch import finish, timed

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_CPU_PRODUCTS = (
    (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 512),
    (2048, 128, 128), (2048, 512, 128), (2048, 128, 512), (1024, 768, 256), (1024, 64, 192),
    (128, 128, 2048), (128, 512, 2048), (768, 256, 1024),
)  # fmt: skip
"""Rows, columns and inner length: forward products with many rows, and those of a weight's
gradient, whose inner length is the number of tokens."""

_GPU_PRODUCTS = (
    (2048, 2048, 2048), (4096, 4096, 4096), (8192, 4096, 4096), (8192, 8192, 8192),
    (4096, 11008, 4096), (4096, 4096, 11008),
)  # fmt: skip
_ATTENTION = {
    "cpu": ((32, 128, 32), (32, 256, 64), (16, 512, 64), (8, 512, 128)),
    "cuda": ((64, 2048, 128), (64, 4096, 64), (128, 1024, 64)),
}
"""Heads (of all samples), length, head size."""

_LAYERS = {
    "cpu": ((1024, 256, 704, 8), (2048, 192, 512, 6), (512, 512, 1408, 16)),
    "cuda": ((8192, 4096, 11008, 32), (16384, 2048, 5632, 16)),
}
"""Tokens, hidden, ffn and heads of layers whose elementwise kernels are timed."""

_TOKENS_OF_A_SAMPLE = 128
_COPIED_BYTES = {"cpu": 2**27, "cuda": 2**31}
_BUDGET_SECONDS = 0.6
"""For each thing that is timed, so that all of them together stay below a minute."""


def measure_worker(device: torch.device) -> WorkerTimings:
    """Time everything that a worker computes, on ``device``."""
    main: Precision = "fp32" if device.type == "cpu" else "bf16"
    shapes = _CPU_PRODUCTS if device.type == "cpu" else _GPU_PRODUCTS
    other: Precision = "bf16" if device.type == "cpu" else "fp32"
    products = [_product(shape, main, device) for shape in shapes]
    products += [_product(shape, other, device) for shape in shapes[1:4]]
    return WorkerTimings(
        products=tuple(products),
        attention=tuple(_attention(shape, main, device) for shape in _ATTENTION[device.type]),
        kernels=tuple(_layer(shape, main, device) for shape in _LAYERS[device.type]),
        memory_bytes_per_second=_memory(device),
        operation_seconds=_operation(device),
        processors=_processors(device),
    )


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _product(
    shape: tuple[int, int, int], precision: Precision, device: torch.device
) -> ProductTiming:
    rows, columns, inner = shape
    dtype = _DTYPES[precision]
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(columns, inner, device=device).to(dtype)
    seconds = timed(lambda: left @ right.T, _BUDGET_SECONDS, device)
    return ProductTiming(rows, columns, inner, precision, seconds)


def _attention(
    shape: tuple[int, int, int], precision: Precision, device: torch.device
) -> AttentionTiming:
    heads, length, size = shape
    parts = [
        torch.randn(1, heads, length, size, device=device, dtype=_DTYPES[precision])
        for _ in range(3)
    ]
    for part in parts:
        part.requires_grad_()
    query, key, value = parts

    def attend() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    forward = timed(attend, _BUDGET_SECONDS, device)
    gradient = torch.randn_like(parts[0])

    def both() -> None:
        torch.autograd.grad(attend(), parts, gradient)

    backward = timed(both, _BUDGET_SECONDS, device) - forward
    return AttentionTiming(heads, length, size, precision, forward, max(backward, forward))


@dataclass(frozen=True)
class _Elementwise:
    """All of a layer but its products and its attention: norms, rotation, layout, SwiGLU,
    residuals; inputs stand for what the products would give."""

    stream: Tensor
    query: Tensor
    key: Tensor
    gate: Tensor
    up: Tensor
    norm: Tensor
    cosine: Tensor
    sine: Tensor

    @classmethod
    def make(
        cls, shape: tuple[int, int, int, int], precision: Precision, device: torch.device
    ) -> _Elementwise:
        tokens, hidden, ffn, heads = shape
        length = min(tokens, _TOKENS_OF_A_SAMPLE)
        samples, size = tokens // length, hidden // heads
        dtype = _DTYPES[precision]

        def leaf(*sizes: int) -> Tensor:
            return torch.randn(*sizes, device=device, dtype=dtype, requires_grad=True)

        angles = torch.randn(1, 1, length, size, device=device, dtype=dtype)
        return cls(
            stream=leaf(samples, length, hidden),
            query=leaf(samples, length, hidden),
            key=leaf(samples, length, hidden // 2),
            gate=leaf(samples, length, ffn),
            up=leaf(samples, length, ffn),
            norm=leaf(hidden),
            cosine=angles.cos(),
            sine=angles.sin(),
        )

    def forward(self) -> tuple[Tensor, ...]:
        """One forward pass over the kernels."""
        size = self.cosine.shape[-1]
        normed = F.rms_norm(self.stream, self.norm.shape, self.norm)
        query = self._turned(_heads(self.query, size))
        key = self._turned(_heads(self.key, size))
        stream = self.stream + query.transpose(1, 2).flatten(2)
        again = F.rms_norm(stream, self.norm.shape, self.norm)
        return normed, key, again, F.silu(self.gate) * self.up, stream + normed

    def both(self) -> None:
        """Forward and backward."""
        outputs = self.forward()
        inputs = (self.stream, self.query, self.key, self.gate, self.up, self.norm)
        torch.autograd.grad(outputs, inputs, [torch.ones_like(out) for out in outputs])

    def _turned(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat([-high, low], dim=-1) * self.sine

    def num_bytes(self) -> float:
        """What the cost model counts for these kernels, forward and twice that backward."""
        tokens = self.stream.shape[0] * self.stream.shape[1]
        hidden, ffn, key = self.stream.shape[-1], self.gate.shape[-1], self.key.shape[-1]
        elements = 12 * hidden + 2 * (hidden + 2 * key) + 2 * hidden + 3 * ffn
        return 3.0 * tokens * elements * self.stream.element_size()


def _heads(x: Tensor, size: int) -> Tensor:
    """``[samples, length, width]`` → ``[samples, heads, length, size]``, as a view."""
    return x.view(*x.shape[:-1], -1, size).transpose(1, 2)


def _layer(
    shape: tuple[int, int, int, int], precision: Precision, device: torch.device
) -> KernelTiming:
    layer = _Elementwise.make(shape, precision, device)
    return KernelTiming(layer.num_bytes(), timed(layer.both, 2 * _BUDGET_SECONDS, device))


def _memory(device: torch.device) -> float:
    """Bytes per second of a copy that no cache holds, read and written."""
    size = _COPIED_BYTES[device.type]
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), _BUDGET_SECONDS, device)
    return 2.0 * size / seconds


def _operation(device: torch.device) -> float:
    """Host seconds of one operation: a layer's kernels on next to nothing, launched only."""
    layer = _Elementwise.make((1, 16, 32, 2), "fp32", device)
    host = torch.device("cpu")  # until they are launched, not until they are done
    seconds = timed(layer.forward, _BUDGET_SECONDS, host)
    finish(device)
    return seconds / HOST_OPERATIONS_DENSE
