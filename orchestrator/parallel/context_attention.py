"""How does attention see the whole of a sequence that several ranks share?

Each rank keeps the queries of its own two pieces and gathers the keys and values of all: with
grouped-query attention these are the small part. Each piece of queries attends to the keys up to
its own end. The result is exact, and so are the gradients, which go back to the ranks whose keys
they are of. Knows no model: it stands in for ``F.scaled_dot_product_attention`` wherever the
blocks call it.

The wrapper calls ``use_context_attention(blocks, group, degree, rank)`` once, on blocks whose
tensors are pieces of sequences. It replaces ``block.forward`` on the instance, so that names stay
as they are and the backward pass recomputes inside it too. Whoever wraps ``forward`` for
recomputation must therefore do so **after** this; a module around the block, or
``fully_shard``, may come before or after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right
from torch.overrides import TorchFunctionMode

from orchestrator.parallel.collectives import gather, sum_and_scatter
from orchestrator.parallel.context import Context, inside, piece_length, pieces


def use_context_attention(
    blocks: Iterable[nn.Module], group: dist.ProcessGroup, degree: int, rank: int
) -> None:
    """Make attention inside ``blocks`` look at the whole sequence, of which this rank has pieces.

    ``rank`` is this rank's index in ``group``, whose ``degree`` ranks all run the same blocks in
    the same order. Outside the blocks nothing changes.
    """
    if degree == 1:
        return
    context = Context(group, degree, rank)
    for block in blocks:
        block.forward = _within(block.forward, context)


def _within(forward: Callable[..., Any], context: Context) -> Callable[..., Any]:
    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        with inside(context), WholeSequenceAttention(context):
            return forward(*args, **kwargs)

    return run


class WholeSequenceAttention(TorchFunctionMode):
    """While active, ``F.scaled_dot_product_attention`` is that of ``attend``."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        if func is F.scaled_dot_product_attention:
            return attend(self.context, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def attend(
    context: Context,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``F.scaled_dot_product_attention`` of a sequence in pieces.

    ``query`` ``[batch, heads, time, dim]``, ``key`` and ``value`` ``[batch, kv_heads, time, dim]``
    are this rank's pieces; so is the result. Without ``is_causal`` every query sees every key.
    Raises ``TypeError`` for a mask, and where keys are not of the positions of the queries.
    """
    if attn_mask is not None:
        raise TypeError(
            "attention with attn_mask cannot be cut along the sequence (model.context): call "
            "F.scaled_dot_product_attention with is_causal=True, or without a mask"
        )
    if query.shape[-2] != key.shape[-2]:
        raise TypeError(
            f"attention of {query.shape[-2]} queries to {key.shape[-2]} keys cannot be cut along "
            "the sequence (model.context): both must be of the same positions"
        )
    query, key, value = _in_autocast_dtype(query, key, value)
    key, value = _gather_keys(key, value, context)
    rest: dict[str, Any] = {"dropout_p": dropout_p, "scale": scale, "enable_gqa": enable_gqa}
    if not is_causal:
        return F.scaled_dot_product_attention(query, key, value, **rest)
    length = piece_length(key.shape[-2], context.degree, "the sequence of queries")
    ends = [(piece + 1) * length for piece in pieces(context.rank, context.degree)]
    parts = [
        _causal(part, key[..., :end, :], value[..., :end, :], rest)
        for part, end in zip(query.chunk(2, dim=-2), ends, strict=True)
    ]
    return torch.cat(parts, dim=-2)


def _causal(query: Tensor, key: Tensor, value: Tensor, rest: Mapping[str, Any]) -> Tensor:
    """The queries are the last positions of the keys; each sees those up to its own."""
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if num_queries == num_keys:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, **rest)
    if query.is_cuda:  # flash attention takes this mask without building it
        mask: Tensor = causal_lower_right(num_queries, num_keys)
    else:
        every = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query.device)
        mask = every.tril(num_keys - num_queries)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **rest)


def _in_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """As autocast would give them to attention; done before they travel."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


def _gather_keys(key: Tensor, value: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    if key.shape != value.shape:
        return _whole(key, context), _whole(value, context)
    both = _whole(torch.stack([key, value]), context)  # in one exchange
    return both[0], both[1]


def _whole(held: Tensor, context: Context) -> Tensor:
    whole: Tensor = _WholeSequence.apply(held, context)  # type: ignore[no-untyped-call]
    return whole


class _WholeSequence(torch.autograd.Function):
    """``[…, time, dim]`` of this rank's pieces → all pieces in order of position.

    Backward: what each rank's queries owe to a piece is summed on the rank that holds it.
    """

    @staticmethod
    def forward(ctx: Any, held: Tensor, context: Context) -> Tensor:
        ctx.context = context
        gathered = gather(held[None], 0, context.group)
        length = held.shape[-2] // 2
        early = [part.narrow(-2, 0, length) for part in gathered]
        late = [part.narrow(-2, length, length) for part in gathered]
        return torch.cat(early + late[::-1], dim=-2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        context, gradient = ctx.context, gradients[0]
        parts = gradient.chunk(2 * context.degree, dim=-2)
        owed = torch.stack(
            [
                torch.cat([parts[piece] for piece in pieces(rank, context.degree)], dim=-2)
                for rank in range(context.degree)
            ]
        )
        return sum_and_scatter(owed, 0, context.group)[0], None
