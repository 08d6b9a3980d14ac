"""What does a sample look like in storage? Named columns of one dtype and one fixed shape.

Translates between numpy values, Arrow fields and JSON. It does not know about files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

NUMERIC_KINDS = "biuf"


@dataclass(frozen=True)
class Column:
    """A key of every sample: its numpy ``dtype`` (``"uint8"``) and ``shape`` (``()``: scalar)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Numbers per sample."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes per sample."""
        return self.num_elements * np.dtype(self.dtype).itemsize

    def describe(self) -> str:
        """Such as ``uint8[257]``, or ``int64`` for a scalar."""
        return f"{self.dtype}{list(self.shape)}" if self.shape else self.dtype

    def to_json(self) -> dict[str, Any]:
        """The column in a manifest."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        """Inverse of ``to_json``."""
        return cls(str(data["name"]), str(data["dtype"]), tuple(int(n) for n in data["shape"]))


def columns_of(sample: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of a sample, sorted by name so that the order of keys does not matter.

    Raises ``TypeError`` for what cannot be stored, naming the key.
    """
    if not isinstance(sample, Mapping):
        raise TypeError(f"a sample is a mapping of names to arrays, not {type(sample).__name__}")
    if not sample:
        raise TypeError("a sample has at least one key; this one is empty")
    return tuple(_column(name, sample[name]) for name in sorted(sample, key=str))


def as_numeric(name: str, value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """A numpy array or scalar, or a Python number, as a native numeric array.

    Raises ``TypeError`` for text, objects, dates, lists and whatever else has no fixed shape
    and numeric dtype.
    """
    if not isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        raise TypeError(
            f"sample[{name!r}] is {_article(value)}; a sample store keeps numbers of fixed shape. "
            "Works: a numpy array, an int, a float or a bool (encode text as integers)"
        )
    array = np.asarray(value)
    if array.dtype.kind not in NUMERIC_KINDS or array.dtype.itemsize > 8:
        raise TypeError(
            f"sample[{name!r}] has dtype {array.dtype}; a sample store keeps booleans, integers "
            "and floats of at most 64 bits"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Fixed-size lists of numbers, with dtype and shape in each field's metadata."""
    return pa.schema([pa.field(c.name, _arrow_type(c), False, _metadata(c)) for c in columns])


def to_arrow(column: Column, values: np.ndarray[Any, np.dtype[Any]]) -> pa.Array:
    """``[n, *shape]`` as an Arrow array over the same memory."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if column.dtype == "bool":
        flat = flat.view(np.uint8)
    numbers = pa.array(flat)
    if not column.shape:
        return numbers
    return pa.FixedSizeListArray.from_arrays(numbers, column.num_elements)


def to_numpy(column: Column, array: pa.Array) -> np.ndarray[Any, np.dtype[Any]]:
    """An Arrow array as ``[n, *shape]`` over the same memory (read-only where it is mapped)."""
    numbers = array.flatten() if column.shape else array
    flat = numbers.to_numpy(zero_copy_only=True)
    if column.dtype == "bool":
        flat = flat.view(np.bool_)
    shaped: np.ndarray[Any, np.dtype[Any]] = flat.reshape(len(array), *column.shape)
    return shaped


def _column(name: Any, value: Any) -> Column:
    if not isinstance(name, str):
        raise TypeError(f"keys of a sample are strings, not {name!r}")
    array = as_numeric(name, value)
    if array.size == 0:
        raise TypeError(f"sample[{name!r}] has shape {list(array.shape)}: no elements to store")
    return Column(name, array.dtype.name, array.shape)


def _arrow_type(column: Column) -> pa.DataType:
    # Arrow packs booleans into bits, which cannot be mapped as a numpy array.
    number = pa.uint8() if column.dtype == "bool" else pa.from_numpy_dtype(np.dtype(column.dtype))
    return pa.list_(number, column.num_elements) if column.shape else number


def _metadata(column: Column) -> dict[bytes, bytes]:
    return {b"dtype": column.dtype.encode(), b"shape": json.dumps(list(column.shape)).encode()}


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
