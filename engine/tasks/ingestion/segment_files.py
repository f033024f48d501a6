"""Writing the files of segments: rows.parquet, and the sidecars that queries read. segments.py says what is in each of them.

Rows come as pieces: tables of at most PAYLOAD_ROWS rows whose columns are named `c<i>`. A piece is a row group of rows.parquet and
a record batch of payload.arrow, so that sidecars which are made again from rows.parquet are the same to the byte.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.frames import Header
from engine.tasks.query import words
from engine.tasks.query.segments import PAYLOAD, PAYLOAD_ROWS, ROWS, ColumnInfo, Vectors

SEGMENT_ROWS = 1_000_000
# A piece of large cells has fewer rows: offsets into the text of one batch have 32 bits, and a piece is held in memory.
PIECE_BYTES = 64 * 1024 * 1024
# Where a value of the first piece occurs so often on average, rows.parquet has a dictionary of the values.
LEAST_REPEATS = 4


# Pieces


def pieces(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in pieces, each with one chunk for every column."""
    waiting: list[pa.Table] = []
    num_rows = num_bytes = 0
    for table in tables:
        waiting.append(table)
        num_rows += table.num_rows
        num_bytes += table.nbytes
        if num_rows >= PAYLOAD_ROWS or num_bytes >= PIECE_BYTES:
            *full, rest = _cut(pa.concat_tables(waiting), num_bytes)
            yield from full
            waiting = [rest]
            num_rows, num_bytes = rest.num_rows, rest.nbytes
    if num_rows:
        yield from _cut(pa.concat_tables(waiting), num_bytes)


def _cut(table: pa.Table, num_bytes: int) -> Iterator[pa.Table]:
    """A table in pieces of equal numbers of rows, but for the last; at least one piece."""
    size = max(1, min(PAYLOAD_ROWS, table.num_rows * PIECE_BYTES // max(1, num_bytes)))
    for start in range(0, max(1, table.num_rows), size):
        yield table.slice(start, size).combine_chunks()


def with_columns(arrays: Mapping[str, pa.ChunkedArray], num_rows: int, columns: Sequence[ColumnInfo]) -> Iterator[pa.Table]:
    """Rows with exactly these columns, in tables of no more than about PIECE_BYTES; a column without an array is null.

    arrays  by the fields of the columns
    """
    row_bytes = 1 + sum(4 * column.dim or 8 for column in columns)
    size = max(1, min(PAYLOAD_ROWS, PIECE_BYTES // row_bytes))
    schema = pa.schema([(column.field, column.arrow_type) for column in columns])
    for start in range(0, num_rows if columns else 0, size):
        length = min(size, num_rows - start)
        found = [arrays[one.name].slice(start, length) if one.name in arrays else pa.nulls(length, one.type) for one in schema]
        yield pa.table(found, schema=schema)


# Segments


def write_segments(staging: Path, columns: Sequence[ColumnInfo], rows: Iterable[pa.Table]) -> list[Header]:
    """Pieces as new segments in `<staging>/segments`, on the disk when this returns; returns what their headers say."""
    folder = staging / "segments"
    folder.mkdir(exist_ok=True)
    written: list[Header] = []
    writer: SegmentWriter | None = None
    for piece in rows:
        while piece.num_rows:
            if writer is None:
                writer = SegmentWriter(folder / secrets.token_hex(16), columns, piece)
            room = SEGMENT_ROWS - writer.num_rows
            writer.write(piece.slice(0, room))
            piece = piece.slice(room)
            if writer.num_rows == SEGMENT_ROWS:
                written.append(writer.close())
                writer = None
    if writer is not None:
        written.append(writer.close())
    fsync(folder)
    return written


class SegmentWriter:
    """One new segment, with all its files.

    columns  those that the segment has; their numbers may have gaps
    first    the piece that will be written first
    """

    def __init__(self, folder: Path, columns: Sequence[ColumnInfo], first: pa.Table) -> None:
        folder.mkdir()
        self.folder = folder
        self.num_rows = 0
        self._columns = columns
        self._nulls = {column.number: 0 for column in columns}
        self._schema = pa.schema([(column.name, column.arrow_type) for column in columns])
        repeating = [column.name for column in columns if _repeats(first[column.field])]
        self._rows = pq.ParquetWriter(str(folder / ROWS), self._schema, compression="zstd", use_dictionary=repeating)
        self._sidecars = Sidecars(folder, columns, names_of(columns))

    def write(self, piece: pa.Table) -> None:
        self.num_rows += piece.num_rows
        arrays = [piece[column.field] for column in self._columns]
        for column, array in zip(self._columns, arrays, strict=True):
            self._nulls[column.number] += array.null_count
        self._rows.write_table(pa.table(arrays, schema=self._schema), row_group_size=PAYLOAD_ROWS)
        self._sidecars.write(piece)

    def close(self) -> Header:
        """Finish the files and wait for the disk; returns the header of the segment."""
        self._rows.close()
        self._sidecars.close(self.folder / PAYLOAD)
        num_bytes = 0
        for path in self.folder.iterdir():
            fsync(path)
            num_bytes += path.stat().st_size
        fsync(self.folder)
        nulls = [self._nulls.get(number, self.num_rows) for number in range(1 + max(self._nulls, default=-1))]
        return {"id": self.folder.name, "rows": self.num_rows, "bytes": num_bytes, "nulls": nulls}


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a dictionary of the values is worth its time: where most differ it takes a fifth longer, and a tenth more room."""
    if pa.types.is_nested(column.type):
        return False
    return bool(pc.count_distinct(column).as_py() * LEAST_REPEATS <= len(column))


def names_of(columns: Sequence[ColumnInfo]) -> list[str]:
    """The sidecars of a segment with these columns, in the order in which they can be made."""
    vectors = [f"{column.field}.{kind}" for column in columns if column.dtype == "vector" for kind in ("f32", "norm")]
    word_indexes = [f"{column.field}.words" for column in columns if column.words]
    return [PAYLOAD, *vectors, *word_indexes]


class Sidecars:
    """Some sidecars of one segment, written from its rows.

    columns  those that the segment has
    names    of the files to make; the others are left alone
    """

    def __init__(self, folder: Path, columns: Sequence[ColumnInfo], names: Sequence[str]) -> None:
        self._folder = folder
        self._names = frozenset(names)
        self._plain = [column for column in columns if column.dtype != "vector"]
        self._vectors = [column for column in columns if column.dtype == "vector"]
        self._words = [column for column in columns if f"{column.field}.words" in self._names]
        self._schema = pa.schema([(column.field, column.arrow_type) for column in self._plain])
        self._open = contextlib.ExitStack()
        self._payload = self._open_payload() if PAYLOAD in self._names else None
        self._floats = {name: self._open_floats(name) for name in self._names if name.endswith((".f32", ".norm"))}

    def _open_payload(self) -> pa.ipc.RecordBatchFileWriter:
        file = self._open.enter_context(pa.OSFile(str(self._folder / PAYLOAD), "wb"))
        return self._open.enter_context(pa.ipc.new_file(file, self._schema))

    def _open_floats(self, name: str) -> BinaryIO:
        return self._open.enter_context(open(self._folder / name, "wb"))

    def write(self, piece: pa.Table) -> None:
        if self._payload is not None:
            arrays = [_settled(_only_chunk(piece[column.field])) for column in self._plain]
            self._payload.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        for column in self._vectors:
            names = (f"{column.field}.f32", f"{column.field}.norm")
            if self._names.intersection(names):
                for name, floats in zip(names, _vectors_and_norms(_only_chunk(piece[column.field])), strict=True):
                    if name in self._floats:
                        self._floats[name].write(floats.data)

    def close(self, payload: Path) -> None:
        """Finish the files. Word indexes are made now, because they need all rows of the segment.

        payload  the segment's payload.arrow, which may be one of those that this object made
        """
        self._open.close()
        if self._words:
            with pa.memory_map(str(payload)) as source:
                table = pa.ipc.open_file(source).read_all()
            for column in self._words:
                words.write(self._folder, column, table[column.field])


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _vectors_and_norms(vectors: pa.FixedSizeListArray) -> tuple[Vectors, Vectors]:
    """float32 [rows, dim] with zeros for nulls, and float32 [rows], their Euclidean norms: NaN for nulls."""
    dim = vectors.type.list_size
    is_there = pc.is_valid(vectors).to_numpy(zero_copy_only=False)
    values = np.zeros((len(vectors), dim), np.float32)
    values[is_there] = vectors.flatten().to_numpy().reshape(-1, dim)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64)).astype(np.float32)
    norms[~is_there] = np.nan
    return values, norms


def _settled(array: pa.Array) -> pa.Array:
    """The same array with the same bytes whenever the values are the same: Arrow leaves open what is under a null."""
    if pa.types.is_list(array.type):
        return _settled_list(array)
    if pa.types.is_boolean(array.type):
        values = pa.py_buffer(_bits(pc.fill_null(array, False)))
        return pa.Array.from_buffers(array.type, len(array), [_validity(array), values])
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        return _settled_texts(array)
    if not array.null_count:
        return array
    integers = array.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
    values = pa.py_buffer(pc.fill_null(integers, 0).to_numpy().tobytes())
    return pa.Array.from_buffers(array.type, len(array), [_validity(array), values])


def _settled_list(array: pa.ListArray) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    items = _settled(array.flatten())
    return pa.Array.from_buffers(array.type, len(array), [_validity(array), pa.py_buffer(offsets)], children=[items])


def _settled_texts(array: pa.Array) -> pa.Array:
    if not len(array):
        return pa.array([], array.type)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    texts = pa.py_buffer(b"") if data is None else data.slice(int(ends[0]), int(ends[-1] - ends[0]))
    return pa.Array.from_buffers(array.type, len(array), [_validity(array), pa.py_buffer(ends - ends[0]), texts])


def _validity(array: pa.Array) -> pa.Buffer | None:
    return pa.py_buffer(_bits(pc.is_valid(array))) if array.null_count else None


def _bits(flags: pa.BooleanArray) -> bytes:
    return np.packbits(flags.to_numpy(zero_copy_only=False), bitorder="little").tobytes()


# Reading rows back, and the disk


def read_rows(folder: Path, columns: Sequence[ColumnInfo]) -> Iterator[pa.Table]:
    """The pieces of a segment, out of its rows.parquet; `columns` must be there (present)."""
    with pq.ParquetFile(str(folder / ROWS)) as file:
        places = [file.schema_arrow.get_field_index(column.name) for column in columns]
        schema = pa.schema([(column.field, column.arrow_type) for column in columns])
        for i in range(file.num_row_groups):
            group = file.read_row_group(i)
            # By place: a name with a dot would be taken for a path.
            arrays = [group.column(place).cast(field.type) for place, field in zip(places, schema, strict=True)]
            yield pa.table(arrays, schema=schema)


def present(folder: Path, columns: Iterable[ColumnInfo]) -> list[ColumnInfo]:
    """Those of the columns that a segment has: it may be older than others."""
    names = set(pq.read_schema(str(folder / ROWS)).names)
    return [column for column in columns if column.name in names]


def fsync(path: Path) -> None:
    """Wait until the disk has the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
