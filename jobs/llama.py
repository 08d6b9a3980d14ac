"""A Llama-style decoder in plain torch: what does the network look like, and how does it write?

RMSNorm, rotary positions, SwiGLU and grouped-query attention. The names of the parameters and
the layout of the rotary halves are those of Hugging Face's ``LlamaForCausalLM``, so a state dict
moves over one to one. This module knows neither bytes nor plans: tokens are integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder. ``heads`` is a multiple of ``kv_heads``; ``hidden`` of ``heads``."""

    vocab: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    tie: bool
    rope_theta: float
    norm_eps: float

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x²) + eps) · weight``, computed in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` → the same shape and dtype."""
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)


class Rotation:
    """The cosines and sines that turn queries and keys by their position (Su et al. 2021).

    Hugging Face's convention: channel ``i`` is paired with channel ``i + head_dim/2``, and the
    pair turns by ``position · theta^(-2i/head_dim)``. Not a module and not a buffer: it is
    cheaper to compute than to broadcast.
    """

    def __init__(self, shape: Shape, positions: Tensor) -> None:
        """``positions``: integers ``[batch or 1, time]``."""
        half = torch.arange(0, shape.head_dim, 2, device=positions.device, dtype=torch.float32)
        angles = positions.float()[..., None] * shape.rope_theta ** (-half / shape.head_dim)
        angles = torch.cat([angles, angles], dim=-1)[:, None]  # [batch or 1, 1, time, head_dim]
        self.cos, self.sin = angles.cos(), angles.sin()

    def __call__(self, x: Tensor) -> Tensor:
        """``[batch, heads, time, head_dim]`` → the same, turned."""
        low, high = x.chunk(2, dim=-1)
        turned = torch.cat([-high, low], dim=-1)
        return (x * self.cos + turned * self.sin).to(x.dtype)


class LayerCache:
    """Keys and values of one layer for the tokens seen so far: ``[batch, kv_heads, time, dim]``."""

    def __init__(self, batch: int, length: int, shape: Shape, like: Tensor) -> None:
        size = (batch, shape.kv_heads, length, shape.head_dim)
        self.keys = torch.empty(size, dtype=like.dtype, device=like.device)
        self.values = torch.empty_like(self.keys)
        self.filled = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Remember new keys and values; return all of them so far."""
        end = self.filled + keys.shape[2]
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Attention(nn.Module):
    """Causal attention in which ``heads / kv_heads`` queries share a key (Ainslie et al. 2023)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head_dim = shape.head_dim
        kv_width = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(
        self, x: Tensor, turn: Rotation, mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """``[batch, time, hidden]`` → the same. ``mask`` is true where a query may look."""
        q = turn(self._heads(self.q_proj(x)))
        k = turn(self._heads(self.k_proj(x)))
        v = self._heads(self.v_proj(x))
        if cache is not None:
            k, v = cache.extend(k, v)
        grouped = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
        )
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU: ``down(silu(gate(x)) · up(x))`` (Shazeer 2020)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., hidden]`` → the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention, then the MLP, each normalised before and added to its input."""

    mlp_kind: type[nn.Module] = MLP

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = self.mlp_kind(shape)
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)

    def forward(
        self, x: Tensor, turn: Rotation, mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """``[batch, time, hidden]`` → the same."""
        x = x + self.self_attn(self.input_layernorm(x), turn, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and the last norm: all of the model but its head."""

    layer_kind: type[nn.Module] = DecoderLayer

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(self.layer_kind(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Tokens ``[batch, time]`` → hidden states ``[batch, time, hidden]``."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        turn = Rotation(self.shape, positions)
        x = self.embed_tokens(tokens)
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, mask, caches[index] if caches else None)
        return self.norm(x)


class Llama(nn.Module):
    """The whole model; its state dict is that of Hugging Face's ``LlamaForCausalLM``."""

    decoder_kind: type[nn.Module] = Decoder

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = self.decoder_kind(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocab, bias=False)
        self.apply(self.initialise)
        if shape.tie:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Tokens ``[batch, time]`` → logits ``[batch, time, vocab]``.

        Without ``mask`` every token sees itself and those before it. With ``caches`` the tokens
        continue what the caches hold, and ``mask`` is ``[batch, 1, time, time so far]``.
        """
        return self.lm_head(self.model(tokens, positions, mask, caches))

    @staticmethod
    def initialise(module: nn.Module) -> None:
        """Hugging Face's ``initializer_range``: normal with deviation 0.02."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
