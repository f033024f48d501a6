"""Tables as Arrow streams: the rows of a Parquet or Arrow file on their way to a model, and the rows of an answer on their way into
a file.
"""

import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.tables.rows import ERROR

# Record batches of this size go through a model fastest.
ROWS = 8192


class Unreadable(Exception):
    """A file is no table that can be read; says why."""


def read_batches(path: str, target: BinaryIO) -> None:
    """Write the rows of a file as an Arrow stream. Unreadable, OSError."""
    try:
        with pa.memory_map(path) as file:
            schema, batches = _opened(path, file)
            with pa.ipc.new_stream(target, schema) as writer:
                for batch in batches:
                    for start in range(0, batch.num_rows, ROWS):
                        writer.write_batch(batch.slice(start, ROWS))
                    target.flush()
    except pa.ArrowException as error:
        raise Unreadable(f"the file cannot be read: {error}".splitlines()[0]) from None


def _opened(path: str, file: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if path.lower().endswith(".parquet"):
        table = pq.ParquetFile(file)
        return table.schema_arrow, table.iter_batches(ROWS, use_threads=False)
    if file.read(6) == b"ARROW1":
        whole = pa.ipc.open_file(file)
        return whole.schema, (whole.get_batch(i) for i in range(whole.num_record_batches))
    file.seek(0)
    stream = pa.ipc.open_stream(file)
    return stream.schema, iter(stream)


def write_batches(source: BinaryIO, target: BinaryIO, form: str, folder: str, begin: Callable[[], None]) -> None:
    """Write the rows of an answer as a table. Structs become columns; `code` and `error` are left out if no row has them. OSError.

    form    arrow or parquet
    folder  where the rows are kept until the last one has come
    begin   called before the first byte is written
    """
    has_errors = False
    with tempfile.TemporaryFile(dir=folder) as kept:
        try:
            stream = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:  # the answer has not begun
            return
        with pa.ipc.new_stream(kept, stream.schema) as writer:
            for batch in _whole(stream):
                has_errors |= batch.column(ERROR[0]).null_count < batch.num_rows
                writer.write_batch(batch)
        kept.seek(0)
        begin()
        rows = pa.ipc.open_stream(kept)
        left_out = () if has_errors else ERROR
        names = [name for name in rows.schema.names if name not in left_out]
        _write(target, form, rows.schema, (pa.Table.from_batches([batch]).select(names).flatten() for batch in rows), names)
        target.flush()


def _whole(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The record batches with rows, up to the end or to where the answer was cut."""
    try:
        yield from (batch for batch in stream if batch.num_rows)
    except (pa.ArrowInvalid, OSError):
        return


def _write(target: BinaryIO, form: str, schema: pa.Schema, tables: Iterator[pa.Table], names: list[str]) -> None:
    flat = schema.empty_table().select(names).flatten().schema.remove_metadata()
    if form == "parquet":
        with pq.ParquetWriter(target, flat, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.cast(flat))
        return
    with pa.ipc.new_file(target, flat) as batches:
        for table in tables:
            batches.write_table(table.cast(flat))
