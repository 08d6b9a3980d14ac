"""A mixture of experts in plain torch: which experts does a token go to, and what do they cost?

A Llama whose MLPs are each several experts, of which a router picks a few per token. Experts are
stacked in one tensor per matrix, so that they can be spread over ranks. Whatever is decided over
more than one token (the balance of the load, who is beyond an expert's capacity) is decided
within a sequence; so it does not depend on how a batch is divided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.llama import Decoder, DecoderLayer, LayerCache, Llama, Rotation, Shape
from orchestrator import sequence_counts, whole_length

BALANCE, DROPPED, LOAD = 0, 1, 2
"""What the three numbers are that a model hands on for each sequence, summed over layers: the
balance loss; how many of the tokens' choices were dropped; and the highest load."""


@dataclass(frozen=True)
class MixtureShape(Shape):
    """The shape of a decoder with experts; ``ffn`` is the width of one of them."""

    experts: int
    top_k: int
    capacity_factor: float
    """How many tokens of a sequence an expert takes, as a multiple of an even share; 0: all."""

    def capacity(self, length: int) -> int:
        """``ceil(factor · length · top_k / experts)`` tokens of each sequence (GShard, Lepikhin
        et al. 2021); as many as there are where the factor is 0."""
        if not self.capacity_factor:
            return length
        return math.ceil(self.capacity_factor * length * self.top_k / self.experts)


class Router(nn.Linear):
    """How well each expert suits a token: probabilities over all experts, in float32."""

    def __init__(self, shape: MixtureShape) -> None:
        super().__init__(shape.hidden, shape.experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, time, hidden]`` → ``[batch, time, experts]``."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float()).softmax(-1)


class Experts(nn.Module):
    """SwiGLU once per expert: ``down(silu(gate(x)) · up(x))``, each matrix with an expert's
    own slice in front."""

    hidden_dims = {"gate_proj": 1, "up_proj": 1, "down_proj": 2}
    """Where in each matrix the hidden features lie, which tensor ranks divide."""

    def __init__(self, shape: MixtureShape) -> None:
        super().__init__()
        inner = (shape.experts, shape.ffn, shape.hidden)
        self.gate_proj = nn.Parameter(torch.empty(inner))
        self.up_proj = nn.Parameter(torch.empty(inner))
        self.down_proj = nn.Parameter(torch.empty(shape.experts, shape.hidden, shape.ffn))

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Tokens ``[n, hidden]``, sorted by expert, of which each has ``counts`` → the same."""
        multiply = grouped if can_group(tokens) else one_by_one
        gate = multiply(tokens, self.gate_proj, counts)
        up = multiply(tokens, self.up_proj, counts)
        return multiply(F.silu(gate) * up, self.down_proj, counts)


def can_group(tokens: Tensor) -> bool:
    """Whether one kernel multiplies tokens with the matrices of all experts."""
    return tokens.is_cuda and tokens.dtype == torch.bfloat16 and hasattr(F, "grouped_mm")


def one_by_one(tokens: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """``[n, in]`` with ``[experts, out, in]`` → ``[n, out]``."""
    parts = tokens.split(counts.tolist())
    return torch.cat([F.linear(x, w) for x, w in zip(parts, matrices, strict=True)])


def grouped(tokens: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """The same in one kernel."""
    ends = counts.cumsum(0).to(torch.int32)
    return F.grouped_mm(tokens, matrices.to(tokens.dtype).transpose(1, 2), offs=ends)


class Mixture(nn.Module):
    """Sends each token to its ``top_k`` experts and adds up their results, weighted."""

    def __init__(self, shape: MixtureShape) -> None:
        super().__init__()
        self.shape = shape
        self.router = Router(shape)
        self.experts = Experts(shape)

    def forward(self, x: Tensor, capped: bool) -> tuple[Tensor, Tensor]:
        """``[batch, time, hidden]`` → the same, and figures ``[batch, 3]``.

        With ``capped`` an expert takes no more tokens of a sequence than its capacity; those
        that come later in it are passed over.
        """
        odds = self.router(x)
        weights, chosen = odds.topk(self.shape.top_k)
        weights = weights / weights.sum(-1, keepdim=True)
        before, total = sequence_counts(chosen_experts(chosen, self.shape.experts))
        kept = torch.ones_like(chosen, dtype=torch.bool)
        if capped:
            kept = before.gather(-1, chosen) < self.shape.capacity(whole_length(x.shape[1]))
        return self._mix(x, weights, chosen, kept), self._figures(odds, total, kept)

    def _mix(self, x: Tensor, weights: Tensor, chosen: Tensor, kept: Tensor) -> Tensor:
        num_experts, top_k = self.shape.experts, self.shape.top_k
        none = num_experts  # sorts behind all experts
        expert = chosen.masked_fill(~kept, none).flatten()
        counts = expert.bincount(minlength=num_experts + 1)[:none]
        order = expert.argsort(stable=True)[: int(counts.sum())]
        tokens = _in_autocast_dtype(x.flatten(0, 1))[order // top_k]
        results = self.experts(tokens, counts) * weights.flatten()[order, None]
        # Copied to their places and then summed, so that the order of the sum is always the same.
        placed = results.new_zeros(expert.shape[0], x.shape[-1]).index_copy(0, order, results)
        return placed.unflatten(0, (*x.shape[:2], top_k)).sum(2).to(x.dtype)

    def _figures(self, odds: Tensor, total: Tensor, kept: Tensor) -> Tensor:
        length = whole_length(odds.shape[1])
        # How often each expert is chosen, as a multiple of an even share.
        load = total.float() * (self.shape.experts / (self.shape.top_k * length))
        balance = (load * odds.sum(1) / length).sum(-1)
        return torch.stack([balance, (~kept).sum((1, 2)).float(), load.amax(-1)], dim=-1)


def chosen_experts(chosen: Tensor, num_experts: int) -> Tensor:
    """``[batch, time, top_k]`` numbers of experts → ``[batch, time, experts]``, 1 for each."""
    marks = chosen.new_zeros((*chosen.shape[:2], num_experts), dtype=torch.int32)
    return marks.scatter_(-1, chosen, 1)


def _in_autocast_dtype(x: Tensor) -> Tensor:
    """As the experts' products would take it; smaller to send."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class MixtureLayer(DecoderLayer):
    """Attention, then the experts, each normalised before and added to its input."""

    mlp_kind = Mixture

    def forward(
        self,
        x: Tensor,
        figures: Tensor,
        turn: Rotation,
        mask: Tensor | None,
        cache: LayerCache | None,
    ) -> tuple[Tensor, Tensor]:
        """``[batch, time, hidden]`` and figures ``[batch, 3]`` so far → the same, further on."""
        x = x + self.self_attn(self.input_layernorm(x), turn, mask, cache)
        mixed, more = self.mlp(self.post_attention_layernorm(x), cache is None)
        return x + mixed, figures + more


class MixtureDecoder(Decoder):
    """Embedding, layers and the last norm."""

    layer_kind = MixtureLayer

    def forward(
        self,
        tokens: Tensor,
        figures: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As ``MixtureLlama``, to hidden states."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        turn = Rotation(self.shape, positions)
        x = self.embed_tokens(tokens)
        if figures is None:
            figures = torch.zeros(tokens.shape[0], 3, device=tokens.device)
        for index, layer in enumerate(self.layers):
            x, figures = layer(x, figures, turn, mask, caches[index] if caches else None)
        return self.norm(x), figures


class MixtureLlama(Llama):
    """The whole model."""

    decoder_kind = MixtureDecoder

    def forward(
        self,
        tokens: Tensor,
        figures: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``[batch, time]`` → logits ``[batch, time, vocab]`` and figures ``[batch, 3]``.

        ``figures`` are what layers before these have counted: a model that is cut into stages
        hands them on. With ``caches`` (see ``Llama``) no expert is too full for a token: when one
        token is written after another, the others of its sequence are not known.
        """
        hidden, figures = self.model(tokens, figures, positions, mask, caches)
        return self.lm_head(hidden), figures

    @staticmethod
    def initialise(module: nn.Module) -> None:
        """Normal with deviation 0.02, as in ``Llama``."""
        if isinstance(module, (nn.Linear, nn.Embedding, Experts)):
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.02)


class Writer(nn.Module):
    """A ``MixtureLlama`` that is called, and answers, as a ``Llama``."""

    def __init__(self, mixture: MixtureLlama) -> None:
        super().__init__()
        self.mixture = mixture
        self.model = mixture.model

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Tokens ``[batch, time]`` → logits ``[batch, time, vocab]``."""
        logits, _ = self.mixture(tokens, None, positions, mask, caches)
        return logits
