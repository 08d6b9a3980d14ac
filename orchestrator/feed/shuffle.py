"""Which element comes at position *i* of a shuffle? Answered without a permutation array.

A keyed Feistel network over a rectangle a × b that just covers [0, size): each round adds a
hash of one half to the other half, which can be undone, so the whole is a bijection. Values
that land outside of [0, size) are permuted again until they fall inside (cycle walking);
with a·b - size < a that is rare. Source: J. Black and P. Rogaway, "Ciphers with Arbitrary
Finite Domains", CT-RSA 2002 (methods "generalized Feistel" and "cycle-walking"). The round
hash is the 64-bit finalizer of MurmurHash3 (A. Appleby, public domain).

It does not know what the elements are. The sequence is part of what a checkpoint relies on:
a test pins it, and a change of it needs a new label in ``cursor``.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

# Few bits to work on mix slowly; below this size a round costs little, so there are more.
_SMALL_SIZE = 1 << 16
_NUM_ROUNDS = 6
_NUM_ROUNDS_SMALL = 20
# One block's temporaries stay in the second-level cache.
_BLOCK = 1 << 14
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT_33 = np.uint64(33)
_SHIFT_32 = np.uint64(32)


class Permutation:
    """A bijection on ``[0, size)`` chosen by ``key``; memory does not grow with ``size``.

    ``size`` is from 1 to 2**62. Calling it maps positions to elements, ``inverse`` maps back.
    """

    def __init__(self, size: int, key: bytes) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"a permutation needs a size from 1 to 2**62, not {size}")
        self.size = size
        rows = math.isqrt(size - 1) + 1
        columns = -(-size // rows)
        num_rounds = _NUM_ROUNDS_SMALL if size < _SMALL_SIZE else _NUM_ROUNDS
        seed = hashlib.shake_256(key + size.to_bytes(8, "little")).digest(8 * num_rounds)
        self._keys = np.frombuffer(seed, dtype="<u8").astype(np.uint64)
        self._moduli = (np.uint64(rows), np.uint64(columns))

    def __call__(self, positions: npt.NDArray[Any]) -> Ids:
        """The elements at ``positions`` (integers in ``[0, size)``, any shape)."""
        return self._map(positions, self._forward)

    def inverse(self, elements: npt.NDArray[Any]) -> Ids:
        """The positions of ``elements`` (integers in ``[0, size)``, any shape)."""
        return self._map(elements, self._backward)

    def _map(self, values: npt.NDArray[Any], step: Any) -> Ids:
        values = np.asarray(values)
        if values.size and (int(values.min()) < 0 or int(values.max()) >= self.size):
            raise IndexError(f"a position lies outside of [0, {self.size})")
        words = values.reshape(-1).astype(np.uint64)
        for start in range(0, len(words), _BLOCK):
            block = words[start : start + _BLOCK]
            block[:] = self._walk(block, step)
        return words.view(np.int64).reshape(values.shape)

    def _walk(self, block: _Words, step: Any) -> _Words:
        size = np.uint64(self.size)
        result: _Words = step(block)
        outside = np.flatnonzero(result >= size)
        # Ends: a cycle of the bijection on the rectangle that began inside comes back inside.
        while outside.size:
            again = step(result[outside])
            result[outside] = again
            outside = outside[again >= size]
        return result

    def _forward(self, words: _Words) -> _Words:
        columns = self._moduli[1]
        halves = [words // columns, words % columns]
        for index, key in enumerate(self._keys):
            side = index & 1
            modulus = self._moduli[side]
            half = halves[side]
            half += _hash_below(halves[1 - side], key, modulus)
            np.subtract(half, modulus, out=half, where=half >= modulus)
        return halves[0] * columns + halves[1]

    def _backward(self, words: _Words) -> _Words:
        columns = self._moduli[1]
        halves = [words // columns, words % columns]
        for index in range(len(self._keys) - 1, -1, -1):
            side = index & 1
            modulus = self._moduli[side]
            half = halves[side]
            half += modulus - _hash_below(halves[1 - side], self._keys[index], modulus)
            np.subtract(half, modulus, out=half, where=half >= modulus)
        return halves[0] * columns + halves[1]


def _hash_below(words: _Words, key: np.uint64, modulus: np.uint64) -> _Words:
    """A hash of each word in ``[0, modulus)``: 32 well mixed bits, scaled (``modulus ≤ 2**31``)."""
    mixed = words + key
    mixed ^= mixed >> _SHIFT_33
    mixed *= _MIX_1
    mixed ^= mixed >> _SHIFT_33
    mixed *= _MIX_2
    mixed >>= _SHIFT_32
    mixed *= modulus
    mixed >>= _SHIFT_32
    return mixed
