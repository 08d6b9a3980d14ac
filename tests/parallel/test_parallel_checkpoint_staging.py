"""Copies that wait to be written: equal to what was, whatever becomes of it, in the same memory."""

from __future__ import annotations

import pytest
import torch

from orchestrator.parallel.pieces import Piece, pieces_of
from orchestrator.parallel.staging import Staging, needed_bytes

pytestmark = pytest.mark.unit

VALUES = {
    "float": torch.arange(7, dtype=torch.float32).reshape(7, 1),
    "half": torch.arange(5, dtype=torch.bfloat16),
    "double": torch.tensor(3.25, dtype=torch.float64),
    "counter": torch.tensor(12),
    "flags": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
    "turned": torch.arange(12.0).reshape(3, 4).t(),
}


def test_every_kind_of_tensor_is_copied_bit_by_bit() -> None:
    values = {name: value.clone() for name, value in VALUES.items()}
    staged = Staging(torch.device("cpu")).copy(pieces_of(values))
    for value in values.values():
        value.zero_()
    for name, value in VALUES.items():
        copy = staged[name].tensor
        assert torch.equal(copy, value), name
        assert copy.dtype == value.dtype
        assert copy.is_contiguous()
        # A view into more would be copied once more, or written as a whole.
        assert copy.untyped_storage().nbytes() == value.nbytes, name


def test_memory_is_kept_and_grows_only_when_it_must() -> None:
    staging = Staging(torch.device("cpu"))
    pieces = pieces_of(VALUES)
    staging.copy(pieces)
    size, address = staging.size_bytes, staging.memory.ctypes.data
    assert size == needed_bytes(pieces)
    staging.copy({"float": pieces["float"]})
    assert (staging.size_bytes, staging.memory.ctypes.data) == (size, address)
    big = {"big": Piece(torch.ones(1000), (0,), (1000,))}
    assert torch.equal(staging.copy(big)["big"].tensor, torch.ones(1000))
    assert staging.size_bytes == needed_bytes(big) > size
    staging.release()
    assert staging.size_bytes == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_from_a_gpu_the_memory_is_page_locked() -> None:
    device = torch.device("cuda:0")
    values = {name: value.to(device) for name, value in VALUES.items()}
    staging = Staging(device)
    staged = staging.copy(pieces_of(values))
    assert staging.pinned
    for name, value in VALUES.items():
        assert torch.equal(staged[name].tensor, value), name
        assert staged[name].tensor.is_pinned() or not value.numel()
    staging.release()
    assert not staging.pinned
