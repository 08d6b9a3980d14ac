"""Which numbers of the model are neither in a hardware file nor in a formula?

Each is physical, named, and fixed once for all models; none belongs to one model, one
framework release or one published row. What each was fixed on is said beside it and in
docs/planner.md.
"""

from __future__ import annotations

TILES: tuple[tuple[int, int, float], ...] = (
    (256, 128, 1.0),
    (128, 128, 0.92),
    (128, 64, 0.75),
    (64, 64, 0.55),
)
"""Rows and columns of one processor's tile, and its rate as a share of the largest tile's.
A smaller tile reads more bytes for each operation. NVIDIA, "Matrix Multiplication Background
User's Guide": tiles 256×128 down to 64×64; the shares fall as the arithmetic intensity
rows·columns/(rows+columns) does, softened by the reuse that the second-level cache gives."""

INNER_HALF = 64
"""Inner length at which filling and draining a tile's pipeline costs as much as computing:
efficiency K/(K + INNER_HALF). A few 32- or 64-wide slices are in flight at either end."""

SPLIT_K = (1, 2, 4, 8)
"""Ways of cutting the inner dimension of a small product to occupy all processors."""

MEMORY_EFFICIENCY = 0.8
"""Share of the memory bandwidth that streaming kernels reach (published: 0.9 above 100 MB,
Calculon; less below)."""

HOST_OPERATIONS_DENSE = 26
"""Operations that the host launches for one forward pass of a layer: two norms, four products
with their biases, attention, activation, residuals and layout changes."""

HOST_OPERATIONS_EXPERTS = 30
"""The same, in addition, for routing, permutation and grouped products of an expert layer."""

HOST_OPERATIONS_COLLECTIVE = 2
"""The same for each collective in the layer."""

COMPILED_HOST_SHARE = 0.25
"""Host time that is left when a compiler has fused and captured the launches."""

COMPILED_MEMORY_SHARE = 0.7
"""Bytes of elementwise kernels that are left when a compiler has fused them."""

HOST_STEP_SECONDS = 2e-3
"""Host time of one optimizer step outside of layers: clipping, scaling, logging, the feed."""

TENSOR_OVERLAP = 0.5
"""Share of sequence-parallel tensor traffic that is hidden behind products cut into slices;
nothing is hidden without sequence parallelism."""

CONTENTION = 0.15
"""Share of a hidden transfer that shows nevertheless: its kernels take processors and memory
bandwidth (Calculon: 15 % of the processors for NVLink)."""

FP8_CAST_BYTES = 3.0
"""Bytes moved to cast one operand element to fp8: read two, write one."""

BUCKET_BYTES = 25 * 2**20
"""Gradients that are averaged together (``bucket_cap_mb`` of PyTorch's DDP, its default)."""

OPTIMIZER_PASS_BYTES: dict[str, int] = {"adamw": 46, "sgd": 34}
"""Bytes read and written for each parameter by one optimizer step: gradient, master weight and
moments in fp32 read and written (30 for AdamW), the norm and the scaling of the gradient (12),
and the gradient set to zero (4)."""
