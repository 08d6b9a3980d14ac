"""What does a model cost? What a Job may say of it, in numbers, so that the planner can predict.

A leaf: knows neither torch nor plans.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The shape of a decoder-only transformer; what is left out has the usual value.

    Returned by ``Job.transformer``. The names are those of ``axis estimate``.
    """

    layers: int
    """Transformer layers."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Attention heads."""
    vocab: int
    """Entries of the vocabulary."""
    seq_len: int
    """Tokens of one sample."""
    kv_heads: int | None = None
    """Heads of keys and values; as many as ``heads`` where left out."""
    ffn: int | None = None
    """Width of the feed-forward block; 4 · hidden where left out."""
    gated_ffn: bool = False
    """Three matrices (SwiGLU) instead of two."""
    tied: bool = False
    """The output table is the embedding."""
    head_dim: int | None = None
    """Elements of one head; hidden / heads where left out."""
    experts: int = 0
    """Routed experts of a layer; 0 is a dense model."""
    topk: int | None = None
    """Experts that each token passes; 2 where left out."""
    expert_ffn: int | None = None
    """Width of one expert; ``ffn`` where left out."""
    shared_experts: int = 0
    """Experts that every token passes."""
