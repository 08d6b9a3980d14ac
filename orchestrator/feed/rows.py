"""How does an Arrow table become rows for a Job?

Numbers and text become Python values; lists of numbers and tensors become numpy arrays, which
are views into the table and are copied when a sample is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from orchestrator.job import Row

_ROWS_AT_ONCE = 4096


def table_rows(table: pa.Table | pa.RecordBatch) -> Iterator[Row]:
    """The rows of a table, one dict of column names to values each."""
    batches = table.to_batches(_ROWS_AT_ONCE) if isinstance(table, pa.Table) else [table]
    for batch in batches:
        names = batch.schema.names
        columns = [column_values(column) for column in batch.columns]
        if not columns:
            yield from ({} for _ in range(batch.num_rows))
            continue
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def column_values(array: pa.Array) -> Sequence[Any]:
    """One value a row: a Python value, or a numpy array for lists of numbers and tensors."""
    kind = array.type
    if isinstance(kind, pa.FixedShapeTensorType) and not array.null_count:
        return list(array.to_numpy_ndarray())
    if isinstance(kind, pa.BaseExtensionType):
        return list(array.to_numpy(zero_copy_only=False))
    if not _is_number_list(kind) or array.null_count:
        return array.to_pylist()  # type: ignore[no-any-return]
    numbers = array.flatten()
    if numbers.null_count:
        return array.to_pylist()  # type: ignore[no-any-return]
    flat = numbers.to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(kind):
        return list(flat.reshape(len(array), kind.list_size))
    ends = array.value_lengths().to_numpy(zero_copy_only=False).cumsum()
    starts = [0, *ends[:-1]]
    return [flat[start:end] for start, end in zip(starts, ends, strict=True)]


def _is_number_list(kind: pa.DataType) -> bool:
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    value = kind.value_type
    return bool(types.is_integer(value) or types.is_floating(value) or types.is_boolean(value))
