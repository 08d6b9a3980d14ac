"""Which parts of which tensors does this rank hold, and which of them does it write?

A ``Piece`` is a rank's part of a named tensor, whatever it was sharded by. Parts that several
ranks hold are dealt out, so that each is written once and the bytes are spread over the ranks.
Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.metadata import TensorProperties as Properties
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Piece:
    """A part of a tensor of shape ``whole``: ``tensor``, beginning at ``offsets`` within it."""

    tensor: Tensor
    offsets: tuple[int, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True)
class Holding:
    """A piece as other ranks know it. Two of the same key are copies of one another."""

    name: str
    offsets: tuple[int, ...]
    size_bytes: int

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """What tells pieces apart."""
        return self.name, self.offsets


def pieces_of(state: Mapping[str, Tensor]) -> dict[str, Piece]:
    """This rank's pieces of named tensors; the memory is that of the tensors.

    Of a ``DTensor`` it is the local shard; nothing where that is empty, or where this rank is
    not in the tensor's mesh.
    """
    found: dict[str, Piece] = {}
    chunks: dict[Any, ChunkStorageMetadata] = {}
    for name, value in state.items():
        value = value.detach()
        if not isinstance(value, DTensor):
            found[name] = Piece(value, (0,) * value.ndim, tuple(value.shape))
        elif _is_held(value):
            found[name] = _shard_of(name, value, chunks)
    return found


def _is_held(value: DTensor) -> bool:
    if value.device_mesh.get_coordinate() is None:
        return False
    return value.to_local().numel() > 0 or value.numel() == 0


def _shard_of(name: str, value: DTensor, chunks: dict[Any, ChunkStorageMetadata]) -> Piece:
    """The local shard. ``chunks`` keeps what torch takes long to find out, once for all layers."""
    local = value.to_local()
    key = (value.shape, value.device_mesh, value.placements)
    if key not in chunks:
        (chunks[key],) = value.__create_chunk_list__()  # type: ignore[no-untyped-call]
    chunk = chunks[key]
    if tuple(chunk.sizes) != tuple(local.shape):
        raise ValueError(
            f"{name}: this rank holds {list(local.shape)}, but {value.placements} of "
            f"{list(value.shape)} leaves it {list(chunk.sizes)}"
        )
    return Piece(local, tuple(chunk.offsets), tuple(value.shape))


def holdings_of(pieces: Mapping[str, Piece]) -> tuple[Holding, ...]:
    """Pieces as other ranks may know them, in order of name."""
    return tuple(
        Holding(name, pieces[name].offsets, pieces[name].tensor.nbytes) for name in sorted(pieces)
    )


def deal_out(held: Sequence[Iterable[Holding]]) -> list[frozenset[str]]:
    """For each rank the names of the pieces that it writes, of those that each rank holds.

    Every piece is given to exactly one of its holders. Largest first, each goes to the holder
    with the fewest bytes so far, of equals to the first (Graham's LPT rule): where all ranks
    hold everything, no two differ by more than the largest piece.
    """
    holders: dict[Any, list[int]] = {}
    sizes: dict[Any, int] = {}
    for rank, holdings in enumerate(held):
        for holding in holdings:
            holders.setdefault(holding.key, []).append(rank)
            sizes[holding.key] = holding.size_bytes
    given: list[set[str]] = [set() for _ in held]
    loads = [0] * len(held)
    for key in sorted(holders, key=lambda key: (-sizes[key], key)):
        rank = min(holders[key], key=lambda rank: (loads[rank], rank))
        given[rank].add(key[0])
        loads[rank] += sizes[key]
    return [frozenset(names) for names in given]


class PiecePlanner(DefaultSavePlanner):
    """DCP's planner for pieces that were dealt out: this rank writes all it is given."""

    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = pieces

    def create_local_plan(self) -> SavePlan:
        """One write for each piece."""
        self.plan = SavePlan([_write_item(name, piece) for name, piece in self.pieces.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        """What is written for an index of the plan."""
        return self.pieces[index.fqn].tensor


def _write_item(name: str, piece: Piece) -> WriteItem:
    return WriteItem(
        index=MetadataIndex(name, piece.offsets),
        type=WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(Size(piece.offsets), piece.tensor.size()),
            properties=Properties.create_from_tensor(piece.tensor),
            size=Size(piece.whole),
        ),
    )
