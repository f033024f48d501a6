"""Rows: the canonical form of one type of data, as a table and as a Parquet file.

Keys are dictionaries of strings or date32, values float64; columns that say nothing in a type are null strings.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.projects.uploads.types import ALL, DataType

Array = np.ndarray

TEXT = pa.dictionary(pa.int32(), pa.string())
NO_DAY = np.iinfo(np.int32).min


def table_of(kind: DataType, columns: Mapping[str, pa.Array], num_rows: int) -> pa.Table:
    """The canonical columns in their order; a key that is not given is `all`, and a value that is not given is null."""
    made = dict(columns)
    for header in kind.keys:
        if header.column not in made:
            made[header.column] = constant(ALL, num_rows)
    for header in kind.values:
        if header.column not in made:
            made[header.column] = pa.nulls(num_rows, pa.float64())
    return pa.table({name: made[name] if name in made else pa.nulls(num_rows, pa.string()) for name in kind.columns})


def constant(text: str, num_rows: int) -> pa.DictionaryArray:
    return dictionary(np.zeros(num_rows, dtype=np.int32), [text])


def dictionary(indices: Array, texts: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(texts, pa.string()))


def dates(days: Array) -> pa.Array:
    """date32 of days from 1970-01-01, null for NO_DAY."""
    is_missing = days == NO_DAY
    return pa.array(days, pa.int32(), mask=is_missing if is_missing.any() else None).view(pa.date32())


def values(numbers: Array) -> pa.Array:
    """float64, null for NaN."""
    return pa.array(numbers, pa.float64(), from_pandas=True)


def taken(table: pa.Table, order: Array) -> pa.Table:
    """The rows in another order, or some of them. Columns of one text alone, of which there are many, are not copied."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.combine_chunks()
        columns[name] = values[: len(order)] if _is_constant(values) else _taken(values, order)
    return pa.table(columns)


def _taken(values: pa.Array, order: Array) -> pa.Array:
    if not pa.types.is_dictionary(values.type) or values.null_count:
        return values.take(pa.array(order))
    # numpy takes indices twice as fast as pyarrow does.
    return pa.DictionaryArray.from_arrays(pa.array(values.indices.to_numpy()[order]), values.dictionary, safe=False)


def _is_constant(values: pa.Array) -> bool:
    if values.null_count:
        return values.null_count == len(values)
    return pa.types.is_dictionary(values.type) and len(values.dictionary) == 1


def is_text(column: pa.ChunkedArray | pa.Array, text: str) -> Array:
    """bool [rows]: whether a dictionary has this text."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    index = values.dictionary.index(text).as_py()
    found: Array = values.indices.fill_null(-1).to_numpy() == index if index >= 0 else np.zeros(len(values), dtype=bool)
    return found


def read(path: str, kind: DataType, columns: Sequence[str] = ()) -> pa.Table:
    """The canonical rows in a file, or some of their columns."""
    wanted = columns or kind.columns
    table = pq.read_table(path, columns=list(wanted), read_dictionary=[name for name in wanted if name in _texts(kind)])
    schema = _schema(kind)
    return table.cast(pa.schema([schema.field(name) for name in wanted])).unify_dictionaries().combine_chunks()


def write(table: pa.Table, kind: DataType, path: Path) -> None:
    """Write a file beside its name, then rename it, so that a file of this name is always whole, also after a crash."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with open(beside, "wb") as file:
            # Without Arrow's own schema in the file, other readers see plain strings and not dictionaries.
            # Compression and statistics would double the time of writing, for files that are read as a whole. Texts are small as
            # dictionaries, and numbers hardly become smaller.
            pq.write_table(table, file, compression="none", use_dictionary=_texts(kind), write_statistics=False, store_schema=False)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        fsync(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def fsync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _texts(kind: DataType) -> list[str]:
    """The columns that are dictionaries."""
    return [header.column for header in kind.keys if header.column not in kind.date_columns]


def _schema(kind: DataType) -> pa.Schema:
    keys = {header.column: pa.date32() if header.column in kind.date_columns else TEXT for header in kind.keys}
    fields = keys | {header.column: pa.float64() for header in kind.values}
    return pa.schema([(name, fields.get(name, pa.string())) for name in kind.columns])
