"""How large is a transformer, and how many operations does a token cost it?

Dense or mixture of experts, decoder only. Knows no device and no mesh.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that decide cost. ``experts`` 0 is a dense model; all counts are per model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    gated_ffn: bool = False
    experts: int = 0
    topk: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    tied: bool = False
    head_dim: int = 0

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def query_width(self) -> int:
        """Columns of the query projection."""
        return self.heads * self.head_size

    @property
    def kv_width(self) -> int:
        """Columns of the key and of the value projection, each."""
        return self.kv_heads * self.head_size

    @property
    def ffn_matrices(self) -> int:
        """Weight matrices of a feed-forward block: gate, up and down, or up and down."""
        return 3 if self.gated_ffn else 2

    @property
    def attention_parameters(self) -> int:
        """Per layer: query, key, value and output projection."""
        return self.hidden * (2 * self.query_width + 2 * self.kv_width)

    @property
    def dense_ffn_parameters(self) -> int:
        """Per layer, what every token passes: the dense block, or shared experts and router."""
        if not self.experts:
            return self.ffn_matrices * self.hidden * self.ffn
        shared = self.shared_experts * self.ffn_matrices * self.hidden * self.expert_ffn
        return shared + self.hidden * self.experts

    @property
    def one_expert_parameters(self) -> int:
        """Per layer: one routed expert."""
        return self.ffn_matrices * self.hidden * self.expert_ffn if self.experts else 0

    @property
    def small_parameters(self) -> int:
        """Per layer: two norms, and the biases that models without a gate usually have."""
        if self.gated_ffn:
            return 2 * self.hidden
        biases = self.query_width + 2 * self.kv_width + self.hidden + self.ffn + self.hidden
        return 4 * self.hidden + biases

    @property
    def layer_parameters(self) -> int:
        """All parameters of one layer, every expert included."""
        shared = self.attention_parameters + self.dense_ffn_parameters + self.small_parameters
        return shared + self.experts * self.one_expert_parameters

    @property
    def embedding_parameters(self) -> int:
        """One table of the vocabulary."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """P: layers, the embedding, and the output table unless it is tied to it."""
        tables = self.embedding_parameters * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + tables + self.hidden

    @property
    def active_matmul_parameters(self) -> int:
        """Weights that one token is multiplied with, the output table included."""
        layer = self.attention_parameters + self.dense_ffn_parameters
        layer += self.topk * self.one_expert_parameters
        return self.layers * layer + self.embedding_parameters


def model_flops_per_token(shape: Shape, seq_len: int) -> float:
    """Forward and backward: 6 per weight plus 12·L·(a·d)·s of attention.

    Chowdhery et al. 2022 (PaLM), appendix B; the attention is counted in full, not halved for
    causality, as Megatron and llm-foundry count it. Recomputation is not in it.
    """
    attention = 12 * shape.layers * shape.query_width * seq_len
    return 6.0 * shape.active_matmul_parameters + attention
