"""Which positions of a sequence does a context rank hold, and what does it know of the others?

A sequence is cut into ``2·degree`` pieces of equal length, and rank ``i`` holds pieces ``i`` and
``2·degree - 1 - i``: under a causal mask early positions cost little and late ones much, and so
every rank has the same work. Batches are cut here, and model code that counts over a sequence
(``sequence_counts``) gets the counts of the whole of it, however it is cut. Attention, the other
thing that looks across positions, is in ``context_attention``.

The wrapper calls ``cut_sequence(job.prepare(batch), split.sequence, rank, degree)`` before
``job.arguments``, with this rank's index in the context group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator.job import Batch
from orchestrator.parallel.collectives import gather


@dataclass(frozen=True)
class Context:
    """The ranks that share a sequence, and where this one stands among them."""

    group: dist.ProcessGroup
    degree: int
    rank: int


_current: ContextVar[Context | None] = ContextVar("context", default=None)


def current_context() -> Context | None:
    """The ranks that share the sequence which this code computes on; none: it is whole."""
    return _current.get()


@contextmanager
def inside(context: Context) -> Iterator[None]:
    """Code in this block holds pieces of sequences that the ranks of ``context`` share."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def pieces(rank: int, degree: int) -> tuple[int, int]:
    """The numbers of the two pieces, of ``2·degree``, that a rank holds, in order of position."""
    return rank, 2 * degree - 1 - rank


def cut_sequence(prepared: Batch, dims: Mapping[str, int], rank: int, degree: int) -> Batch:
    """This rank's pieces of every tensor that ``dims`` names, along the dimension it gives.

    The others stay whole. Raises ``ValueError`` where a tensor is missing, or its length is not
    a multiple of ``2·degree``.
    """
    if degree == 1:
        return prepared
    missing = sorted(set(dims) - set(prepared))
    if missing:
        raise ValueError(
            f"Split.sequence names {', '.join(missing)}, but Job.prepare returned "
            f"{', '.join(sorted(prepared)) or 'nothing'}"
        )
    return {
        name: _cut(name, tensor, dims[name], rank, degree) if name in dims else tensor
        for name, tensor in prepared.items()
    }


def _cut(name: str, tensor: Tensor, dim: int, rank: int, degree: int) -> Tensor:
    length = piece_length(tensor.shape[dim], degree, f"{name!r} along dimension {dim}")
    held = [tensor.narrow(dim, piece * length, length) for piece in pieces(rank, degree)]
    return torch.cat(held, dim)


def piece_length(length: int, degree: int, what: str) -> int:
    """How long one of ``2·degree`` pieces is. Raises ``ValueError`` where they are not equal."""
    count = 2 * degree
    if length >= count and length % count == 0:
        return length // count
    below, above = length // count * count, (length // count + 1) * count
    works = f"{below} or {above}" if below else f"{above}"
    raise ValueError(
        f"{what} has {length} positions, which model.context={degree} cuts into 2·{degree} = "
        f"{count} equal pieces; works: {works} positions"
    )


def whole_length(length: int) -> int:
    """Positions of the whole sequence, of which ``length`` are held here. For model code."""
    context = _current.get()
    return length if context is None else length * context.degree


def sequence_counts(marks: Tensor) -> tuple[Tensor, Tensor]:
    """Counts over whole sequences, for model code that holds pieces of them.

    ``marks`` are integers ``[batch, time, …]``, such as 1 where a token takes something.
    Returns ``before``, of the same shape: the sum of marks at earlier positions of the sequence;
    and ``total`` ``[batch, …]``: the sum at all of them. Neither has a gradient. Every rank that
    shares the sequence must call it alike.
    """
    marks = marks.detach()
    context = _current.get()
    if context is None:
        through = marks.cumsum(1)
        return through - marks, marks.sum(1)
    halves = torch.unflatten(marks, 1, (2, -1))  # [batch, 2, half of time, …]
    through = halves.cumsum(2)
    by_piece = _of_all_pieces(through[:, :, -1], context)  # [pieces, batch, …]
    starts = by_piece.cumsum(0) - by_piece
    mine = starts[list(pieces(context.rank, context.degree))].transpose(0, 1).unsqueeze(2)
    return (through - halves + mine).flatten(1, 2), by_piece.sum(0)


def _of_all_pieces(sums: Tensor, context: Context) -> Tensor:
    """``[batch, 2, …]`` of this rank's pieces → ``[2·degree, batch, …]`` in order of position."""
    gathered = gather(sums.transpose(0, 1)[None], 0, context.group)
    return torch.cat([gathered[:, 0], gathered[:, 1].flip(0)])
