"""Files of Parquet, read in small batches, and what their columns are as Python values.

A Parquet file is a program for a reader as much as data: all sizes in its footer are only what it says of itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.preview.csv_files import Records, distinct
from engine.tasks.preview.failures import ParserError
from engine.tasks.preview.limits import MAX_ROW_GROUP_BYTES

BATCH_ROWS = 100
BATCH_BYTES = 16 * 1024 * 1024
STREAM_BYTES = 1024 * 1024


@contextlib.contextmanager
def opened_parquet(file: BinaryIO) -> Iterator[pq.ParquetFile]:
    """The file, not mapped and not read ahead; its columns come in pieces of a mebibyte. ParserError."""
    try:
        parquet = pq.ParquetFile(file, memory_map=False, buffer_size=STREAM_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParserError(f"it is not a Parquet file: {error}") from error
    with parquet:
        yield parquet


def read_schema(file: BinaryIO) -> tuple[pa.Schema, int]:
    """The types of the columns, and how many rows there are. ParserError."""
    with opened_parquet(file) as parquet:
        schema = parquet.schema_arrow
        fields = [field.with_name(name) for field, name in zip(schema, names_of(parquet), strict=True)]
        return pa.schema(fields, schema.metadata), parquet.metadata.num_rows


def names_of(parquet: pq.ParquetFile) -> list[str]:
    """The names of the columns, with `.1` and so on behind one that is there already."""
    return distinct(parquet.schema_arrow.names)


def records(opened: Callable[[], BinaryIO], names: dict[str, None]) -> Records:
    """The rows of one file. ParserError."""
    number = 0
    with opened() as file, opened_parquet(file) as parquet:
        names.update(dict.fromkeys(names_of(parquet)))
        for batch in batches(parquet, 0):
            size = max(1, batch.nbytes // max(1, batch.num_rows))
            columns = [values(column) for column in batch.columns]
            for row in zip(*columns, strict=True) if columns else [()] * batch.num_rows:
                number += 1
                yield number, size, dict(zip(batch.schema.names, row, strict=True))


def batches(parquet: pq.ParquetFile, first_row: int, max_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows from the first that is wanted on, in batches of about BATCH_BYTES; earlier groups are not read. ParserError."""
    start = 0
    names = names_of(parquet)
    for i in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(i)
        if start + group.num_rows > first_row:
            if group.total_byte_size > MAX_ROW_GROUP_BYTES:
                size = f"{group.total_byte_size:,} bytes when it is unpacked, and the limit is {MAX_ROW_GROUP_BYTES:,}"
                raise ParserError(f"row group {i} has {size}: write the file with smaller row groups")
            for batch in _of_group(parquet, i, max(0, first_row - start), max_rows):
                yield batch.rename_columns(names)
        start += group.num_rows


def _of_group(parquet: pq.ParquetFile, i: int, skipped: int, max_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a group. Where a batch is larger than the memory, as equal values are stored once, they come one by one."""
    group = parquet.metadata.row_group(i)
    row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
    size = max(1, min(max_rows, BATCH_BYTES // row_bytes))
    done = skipped
    for rows_of_batch in dict.fromkeys((size, 1)):
        try:
            for batch in _from_row(parquet, i, done, rows_of_batch):
                yield batch
                done += batch.num_rows
        except pa.ArrowMemoryError:
            if rows_of_batch == 1:
                raise
        except (pa.ArrowException, OSError) as error:
            raise ParserError(f"row group {i} cannot be read: {error}") from error
        else:
            return


def _from_row(parquet: pq.ParquetFile, i: int, first_row: int, size: int) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in parquet.iter_batches(size, row_groups=[i], use_threads=False):
        if start + batch.num_rows > first_row:
            yield batch.slice(max(0, first_row - start))
        start += batch.num_rows


# Values


def values(array: pa.Array) -> list[Any]:
    """The values of a column as Python has them; nanoseconds become microseconds. An odd one becomes its text."""
    if pa.types.is_dictionary(array.type):
        return _of_dictionary(array)
    with contextlib.suppress(pa.ArrowException):
        array = array.cast(_readable(array.type), safe=False) if array.type != _readable(array.type) else array
    try:
        found: list[Any] = array.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        found = [_value(one) for one in array]
    return [float(one) for one in found] if pa.types.is_float16(array.type) and None not in found else found


def _of_dictionary(array: pa.DictionaryArray) -> list[Any]:
    """Equal values are one object here, too: a small file can have a large value in every row."""
    used = array.indices.unique().drop_null()
    known = dict(zip(used.to_pylist(), values(array.dictionary.take(used)), strict=True))
    return [known.get(index) for index in array.indices.to_pylist()]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.cast(pa.binary()).as_py().decode(errors="replace")
    except (ValueError, OverflowError, pa.ArrowException):  # a date beyond the year 9999, a time zone that nobody knows
        return str(scalar.value if hasattr(scalar, "value") else scalar.type)


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type with microseconds in place of nanoseconds, which datetime does not have."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _readable(kind.value_type)
        return pa.list_(inner) if inner != kind.value_type else kind
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_readable(kind.value_type), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_readable(kind.key_type), _readable(kind.item_type))
    if pa.types.is_struct(kind):
        fields = [field.with_type(_readable(field.type)) for field in kind]
        return pa.struct(fields) if any(new.type != old.type for new, old in zip(fields, kind, strict=True)) else kind
    return kind
