"""Bytes to rows: the columns of some record batches that a model reads, checked in full and in a few plain types.

What comes here is written by strangers. pyarrow checks the metadata, and `validate(full=True)` every offset and index before
anything follows them; the server has bounded what decompression gives. What a dictionary or a view repeats is counted before it is
copied.
"""

import contextlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.frames import Buffer
from engine.tasks.scoring.score import one_line

ID = "yhat_id"
# The rows of one block have at most so much in their columns; the server is asked for smaller blocks of the same rows.
BLOCK_BYTES = 32 * 1024 * 1024
ELEMENT_BYTES = 8

TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BINARIES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
VIEWS = (pa.types.is_string_view, pa.types.is_binary_view)
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
# These become texts or numbers, as JSON would have them.
CONVERTED = (pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp)


class BadArrow(ValueError):
    """The bytes are not what they should be, or have a type that no model reads; says why."""


class TooMuch(Exception):
    """The rows of this block have too much in their columns."""


def is_any(kind: pa.DataType, checks: Collection[Any]) -> bool:
    return any(check(kind) for check in checks)


def aligned(payload: Buffer) -> pa.Buffer:
    """The bytes in memory that is aligned as Arrow wants it; in a frame they stand anywhere."""
    return pa.py_buffer(bytes(payload))


# Schemas


def read_schema(data: pa.Buffer) -> pa.Schema:
    """The schema at the beginning of a stream. BadArrow."""
    try:
        schema = pa.ipc.read_schema(data)
        _ = schema.names  # raises UnicodeDecodeError for a name that is not UTF-8
        return schema
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadArrow(one_line(error)) from None


def check_schema(schema: pa.Schema, fields: Collection[str]) -> list[str]:
    """The columns that are read, in their order: those of the model, and the id. BadArrow for one that cannot be read."""
    names = [name for name in schema.names if name in fields or name == ID]
    for name in names:
        if names.count(name) > 1:
            raise BadArrow(f"the column '{name}' comes twice")
        kind = schema.field(name).type
        if name == ID:
            check_id(kind)
        elif not is_readable(kind):
            raise BadArrow(f"the column '{name}' has the type {str(kind)[:100]}, which no model reads")
    return names


def check_id(kind: pa.DataType) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_number = pa.types.is_integer(inner) or pa.types.is_float32(inner) or pa.types.is_float64(inner)
    if not (is_number or is_any(inner, TEXTS) or pa.types.is_null(inner)):
        raise BadArrow(f"the column '{ID}' has the type {str(kind)[:100]}, and ids are strings or numbers")


def is_readable(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        return is_any(kind.value_type, (*TEXTS, *NUMBERS))
    if is_any(kind, LISTS):
        inner = kind.value_type
        return is_any(inner, (*TEXTS[:2], *NUMBERS)) or (is_any(inner, LISTS) and is_readable(inner))
    return is_any(kind, (*TEXTS, *BINARIES, *NUMBERS, *CONVERTED))


# Rows


def read_rows(data: pa.Buffer, fields: Collection[str], skip: int, count: int | None) -> pa.RecordBatch:
    """Some rows of the record batches: the columns that are read, as they came, checked in full. BadArrow.

    skip     rows before them
    count    None for all that follow
    returns  at least one column, so that it has a number of rows: one without a name if no column is read
    """
    try:
        table = _table(data, fields)
        if count is not None and table.num_rows < skip + count:
            raise BadArrow("a record batch has fewer rows than it says")
        table = table.slice(skip, count)
        for batch in table.to_batches():
            batch.validate(full=True)
        return _one_batch(table)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BadArrow(one_line(error)) from None


def shortened(rows: pa.RecordBatch, limit_bytes: int) -> pa.RecordBatch:
    """The same rows, of which those stay too long that are: a text of a dictionary is cut where it alone makes every row too long.

    A long text that is sent once would be copied for each row that names it, only to be refused there.
    """
    return pa.record_batch([_shortened(column, limit_bytes) for column in rows.columns], names=rows.schema.names)


def _shortened(column: pa.Array, limit_bytes: int) -> pa.Array:
    if not pa.types.is_dictionary(column.type) or not is_any(column.type.value_type, TEXTS):
        return column
    sizes = value_bytes(column.dictionary)
    if sizes is None or not len(sizes) or sizes.max() <= limit_bytes:
        return column
    texts = pc.utf8_slice_codeunits(_plain(column.dictionary), 0, limit_bytes + 1)
    return pa.DictionaryArray.from_arrays(column.indices, texts)


def plain_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in types that JSON has. TooMuch; BadArrow for a value that has no place in these types."""
    _check_size(rows)
    try:
        return pa.record_batch([_plain(column) for column in rows.columns], names=rows.schema.names)
    except MemoryError:
        raise
    except pa.ArrowException as error:
        raise BadArrow(one_line(error)) from None


def _table(data: pa.Buffer, fields: Collection[str]) -> pa.Table:
    """The columns of all record batches that are read, not checked yet."""
    names = pa.ipc.read_schema(data).names
    places = [i for i, name in enumerate(names) if name in fields or name == ID]
    # An empty list would mean all columns, and any column tells the number of rows.
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=places or [0] if names else None)
    with pa.ipc.open_stream(data, options=options) as reader:
        batches = list(reader)
        if places:
            return pa.Table.from_batches(batches, reader.schema)
    return pa.table({"": pa.nulls(sum(batch.num_rows for batch in batches))})


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else table.schema.empty_table().to_batches()[0]


def value_bytes(column: pa.Array) -> np.ndarray | None:
    """int64 [N]: the bytes of each value, as far as they can differ; None for a column of fixed width."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return value_bytes(column.storage)
    if pa.types.is_dictionary(kind):
        sizes = value_bytes(column.dictionary)
        return None if sizes is None else sizes[_filled(column.indices).astype(np.int64)] if len(sizes) else None
    if is_any(kind, VIEWS):
        return _view_bytes(column)
    if is_any(kind, (*TEXTS, *BINARIES)):
        return _filled(pc.binary_length(column)).astype(np.int64)
    return _list_bytes(column) if is_any(kind, LISTS) else None


def _list_bytes(column: pa.Array) -> np.ndarray:
    """An element takes 8 bytes at least, also a null, which becomes an object of its own."""
    lengths = _filled(pc.list_value_length(column)).astype(np.int64)
    sizes = value_bytes(column.flatten())
    if sizes is None:
        return lengths * ELEMENT_BYTES
    ends, before = np.cumsum(lengths), np.concatenate(([0], np.cumsum(sizes)))
    return before[ends] - before[ends - lengths] + lengths * ELEMENT_BYTES


def _view_bytes(column: pa.Array) -> np.ndarray:
    """A view has four 32-bit numbers, of which the first is its length. pyarrow has no function for that."""
    views = np.frombuffer(column.buffers()[1], np.int32, count=4 * (column.offset + len(column))).reshape(-1, 4)
    sizes = views[column.offset : column.offset + len(column), 0].astype(np.int64)
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), sizes, 0) if column.null_count else sizes


def _filled(column: pa.Array) -> np.ndarray:
    return (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)


def row_bytes(rows: pa.RecordBatch) -> np.ndarray | None:
    """int64 [N]: the bytes of each row in columns whose values differ in size; None if there is no such column."""
    sizes = [one for column in rows.columns if (one := value_bytes(column)) is not None]
    return sum(sizes[1:], sizes[0]) if sizes else None


def _check_size(rows: pa.RecordBatch) -> None:
    """TooMuch if several rows together have more than BLOCK_BYTES once nothing is shared any more."""
    sizes = row_bytes(rows)
    if sizes is not None and len(sizes) > 1 and int(sizes.sum()) > BLOCK_BYTES:
        raise TooMuch


def _number(column: pa.Array) -> pa.Array:
    """Decimals as 64-bit integers where these hold them, as sums of integers often are, else as floats."""
    if column.type.scale == 0:
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.int64())
    return column.cast(pa.float64())


def _plain(column: pa.Array) -> pa.Array:
    """A column of a type that JSON has: dictionaries and extensions become what they stand for, dates texts, decimals numbers."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary).take(column.indices)
    if is_any(kind, VIEWS):
        return column.cast(pa.string() if pa.types.is_string_view(kind) else pa.binary())
    if pa.types.is_decimal(kind):
        return _number(column)
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        return pc.strftime(column.cast(pa.timestamp(kind.unit)), format=f"%Y-%m-%dT%H:%M:%S{zone}")
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.string())
    return column
