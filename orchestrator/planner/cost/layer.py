"""What does one transformer layer compute for one micro-batch on one rank?

Lists the matrix products, the attention core and the elementwise traffic of a forward pass.
Knows no device; ``passes`` puts times to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from orchestrator.planner.cost.case import BYTES_PER_ELEMENT, Case
from orchestrator.planner.cost.matmul import Product


@dataclass(frozen=True, slots=True)
class LayerWork:
    """One forward pass of one layer on one rank.

    ``products`` have weights (their backward is twice as large); ``score_products`` are those
    of unfused attention. ``flash_flops`` count half the matrix of scores, as a causal kernel
    does. ``streamed_bytes`` and ``score_bytes`` are what elementwise kernels read and write.
    """

    products: tuple[Product, ...]
    score_products: tuple[Product, ...]
    flash_flops: float
    streamed_bytes: float
    score_bytes: float
    collectives: int


def layer_work(case: Case) -> LayerWork:
    """The forward pass of one layer of ``case``."""
    shape, tp = case.shape, case.degrees.tp
    tokens = case.rank_tokens
    query = shape.query_width // tp
    kv = max(shape.kv_width // tp, shape.head_size)
    products = [
        Product(tokens, query + 2 * kv, shape.hidden),
        Product(tokens, shape.hidden, query),
        *_feed_forward(case, tokens),
    ]
    scores, flash = _attention(case)
    return LayerWork(
        tuple(products),
        scores,
        flash,
        _streamed_bytes(case, tokens, query, kv),
        _score_bytes(case),
        2 if tp > 1 else 0,
    )


def _feed_forward(case: Case, tokens: int) -> list[Product]:
    shape, degrees = case.shape, case.degrees
    up_width = shape.ffn_matrices - 1
    if not shape.experts:
        width = shape.ffn // degrees.tp
        return [
            Product(tokens, up_width * width, shape.hidden),
            Product(tokens, shape.hidden, width),
        ]
    width = max(1, shape.expert_ffn // degrees.tp)
    local = max(1, shape.experts // degrees.ep)
    # Balanced routing: each local expert gets its share of what all ranks of the group send.
    routed = max(1, ceil(tokens * shape.topk * degrees.ep / shape.experts))
    found = [
        Product(tokens, shape.experts, shape.hidden),
        Product(routed, up_width * width, shape.hidden, local),
        Product(routed, shape.hidden, width, local),
    ]
    if shape.shared_experts:
        shared = shape.shared_experts * width
        found.append(Product(tokens, up_width * shared, shape.hidden))
        found.append(Product(tokens, shape.hidden, shared))
    return found


def _attention(case: Case) -> tuple[tuple[Product, ...], float]:
    shape, work, degrees = case.shape, case.work, case.degrees
    heads = max(1, shape.heads // degrees.tp) * work.micro_batch
    length, own = work.seq_len, work.seq_len // degrees.cp
    if work.attention == "flash":
        # Two products of [own, d] x [d, length], half of it masked.
        return (), 2.0 * own * length * shape.head_size * heads
    scores = Product(own, length, shape.head_size, heads)
    context = Product(own, shape.head_size, length, heads)
    return (scores, context), 0.0


NORM_AND_RESIDUAL_PASSES = 12
"""Reads and writes of [tokens, hidden] by two norms (2 each) and two residual additions with
bias and dropout (4 each)."""


def _streamed_bytes(case: Case, tokens: int, query: int, kv: int) -> float:
    """Bytes of elementwise kernels, without those on the matrix of scores."""
    shape, work, degrees = case.shape, case.work, case.degrees
    outside = float(NORM_AND_RESIDUAL_PASSES * shape.hidden)
    if work.sequence_parallel:
        outside /= degrees.tp
    layout = 2 * (query + 2 * kv) + 2 * query
    if shape.experts:
        width = max(1, shape.expert_ffn // degrees.tp) * (shape.topk + shape.shared_experts)
        # Dispatch and combination read and write every routed copy of a token.
        outside += 4 * shape.topk * shape.hidden
    else:
        width = shape.ffn // degrees.tp
    activation = shape.ffn_matrices * width
    elements = outside + layout + activation
    return float(tokens * elements * BYTES_PER_ELEMENT[work.precision])


SCORE_PASSES = 4.5
"""Reads and writes of the matrix of scores in a forward pass without flash: masked softmax
reads and writes it, dropout reads it and writes it with a mask of half its bytes."""


def _score_bytes(case: Case) -> float:
    shape, work, degrees = case.shape, case.work, case.degrees
    if work.attention == "flash":
        return 0.0
    heads = max(1, shape.heads // degrees.tp)
    elements = work.micro_batch * heads * work.seq_len * work.seq_len / degrees.cp
    return SCORE_PASSES * elements * BYTES_PER_ELEMENT[work.precision]
