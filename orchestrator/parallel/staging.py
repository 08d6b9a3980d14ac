"""Where do tensors wait to be written while training goes on? In host memory, kept for the next
time.

One stretch of memory holds all of a rank's pieces; where they come from an accelerator it is
page-locked, so that they arrive at the speed of the bus.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from orchestrator.parallel.pieces import Piece

_ALIGNMENT_BYTES = 64
_PORTABLE = 1
"""``cudaHostRegisterPortable``: page-locked for every device."""


class Staging:
    """Copies pieces into memory of its own; what it gave before is overwritten by the next copy."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.memory = np.empty(0, dtype=np.uint8)
        self.pinned = False

    @property
    def size_bytes(self) -> int:
        """How much memory it has."""
        return self.memory.nbytes

    def reserve(self, size_bytes: int) -> None:
        """Have room for pieces of so many bytes, of which the system has given every page.

        The first touch of a page costs many times the copying of it.
        """
        if size_bytes <= self.size_bytes:
            return
        self.release()
        self.memory = np.empty(size_bytes, dtype=np.uint8)
        self.memory.fill(0)
        if self.device.type == "cuda":
            self._pin(True)

    def copy(self, pieces: Mapping[str, Piece]) -> dict[str, Piece]:
        """The same pieces in host memory, all of them copied when this returns."""
        self.reserve(needed_bytes(pieces))
        staged, start = {}, 0
        for name, piece in pieces.items():
            stretch = self.memory[start : start + piece.tensor.nbytes]
            # Its storage is as long as the piece, so that it can be written as it is.
            host = torch.from_numpy(stretch).view(piece.tensor.dtype).view(piece.tensor.shape)
            host.copy_(piece.tensor, non_blocking=self.pinned)
            staged[name] = Piece(host, piece.offsets, piece.whole)
            start += _aligned(piece.tensor.nbytes)
        if self.pinned:
            torch.cuda.current_stream(self.device).synchronize()
        return staged

    def release(self) -> None:
        """Give the memory back."""
        if self.pinned:
            self._pin(False)
        self.memory = np.empty(0, dtype=np.uint8)

    def _pin(self, wanted: bool) -> None:
        """Page-lock the memory, or undo it. torch's own page-locked memory comes in powers of
        two, which would be up to twice what is needed."""
        address = self.memory.ctypes.data
        driver = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.device):  # a thread would begin on the first one of the node
            if wanted:
                code = driver.cudaHostRegister(address, self.memory.nbytes, _PORTABLE)
            else:
                code = driver.cudaHostUnregister(address)
        torch.cuda.check_error(int(code))
        self.pinned = wanted


def needed_bytes(pieces: Mapping[str, Piece]) -> int:
    """Room that pieces take, each beginning at a round address."""
    return sum(_aligned(piece.tensor.nbytes) for piece in pieces.values())


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
