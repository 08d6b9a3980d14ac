"""How do single samples become columns? They are copied into growing arrays as they come.

Copying at once costs no more than collecting and stacking later, and a Job may reuse the
array it yielded. It does not know about files or shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.feed.columns import (
    Column,
    arrow_schema,
    as_numeric,
    columns_of,
    to_arrow,
)

_FIRST_ROWS = 64
_Array = np.ndarray[Any, np.dtype[Any]]


class SampleBuffer:
    """Samples of one shape, stacked: ``add`` one by one, take rows out as record batches.

    The first sample fixes keys, dtypes and shapes. Every other one must match, or ``add``
    raises ``TypeError`` naming the key.
    """

    def __init__(self) -> None:
        self.columns: tuple[Column, ...] = ()
        self.num_rows = 0
        self.row_bytes = 0  # of one sample; unknown before the first
        self._capacity = 0
        self._slots: list[tuple[str, Any, tuple[int, ...], _Array]] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of the samples held."""
        return self.num_rows * self.row_bytes

    def add(self, sample: Mapping[str, Any]) -> None:
        """Copy a sample in. Raises ``TypeError`` if it does not look like the first one."""
        if not self.columns:
            self.columns = columns_of(sample)
            self.row_bytes = sum(column.size_bytes for column in self.columns)
        row = self.num_rows
        if row == self._capacity:
            self._grow()
        if type(sample) is not dict and not isinstance(sample, Mapping):
            raise self._other_keys(sample)
        if len(sample) != len(self._slots):
            raise self._other_keys(sample)
        for name, dtype, shape, array in self._slots:
            try:
                value = sample[name]
            except KeyError:
                raise self._other_keys(sample) from None
            if type(value) is not np.ndarray or value.dtype != dtype:
                value = as_numeric(name, value)
            if value.shape != shape or value.dtype != dtype:
                raise self._other_form(name, value)
            array[row] = value
        self.num_rows = row + 1

    def truncate(self, num_rows: int) -> None:
        """Forget all samples but the first ``num_rows``."""
        self.num_rows = min(self.num_rows, num_rows)

    def batch(self, start: int = 0, stop: int | None = None) -> pa.RecordBatch:
        """Rows ``[start, stop)`` over the buffer's own memory: write them before adding more."""
        rows = slice(start, self.num_rows if stop is None else stop)
        arrays = [
            to_arrow(column, slot[3][rows])
            for column, slot in zip(self.columns, self._slots, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(self.columns))

    def clear(self) -> None:
        """Forget all samples, and keep their form and the memory."""
        self.num_rows = 0

    def reset(self) -> None:
        """Forget all samples and their form: the next one fixes it anew."""
        self.columns, self._slots = (), []
        self._capacity = self.num_rows = self.row_bytes = 0

    def _grow(self) -> None:
        capacity = max(_FIRST_ROWS, 2 * self._capacity)
        before = {slot[0]: slot[3] for slot in self._slots}
        self._slots = []
        for column in self.columns:
            dtype = np.dtype(column.dtype)
            array = np.empty((capacity, *column.shape), dtype)
            if column.name in before:
                array[: self.num_rows] = before[column.name][: self.num_rows]
            self._slots.append((column.name, dtype, column.shape, array))
        self._capacity = capacity

    def _other_keys(self, sample: Any) -> TypeError:
        if not isinstance(sample, Mapping):
            return TypeError(
                f"a sample is a mapping of names to arrays, not {type(sample).__name__}"
            )
        expected = ", ".join(column.name for column in self.columns)
        found = ", ".join(sorted(map(str, sample)))
        return TypeError(f"a sample has the keys {found}; earlier samples have {expected}")

    def _other_form(self, name: str, value: _Array) -> TypeError:
        expected = next(column for column in self.columns if column.name == name)
        found = Column(name, value.dtype.name, value.shape)
        return TypeError(
            f"sample[{name!r}] is {found.describe()}; earlier samples have {expected.describe()}. "
            "Every sample of a run has the same keys, dtypes and shapes"
        )


def encode_samples(samples: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """All samples as one record batch. Raises ``TypeError`` as ``SampleBuffer.add`` does,
    and ``ValueError`` if there is none."""
    buffer = SampleBuffer()
    for sample in samples:
        buffer.add(sample)
    if not buffer.num_rows:
        raise ValueError("there are no samples to encode")
    return buffer.batch()
