"""Prepared rows: what `prepare` wrote of a split, read again; or Parquet files of the dataset, which are read the same way."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.preview import parquet_files
from engine.tasks.preview.columns import Column
from engine.tasks.preview.failures import UnsupportedError, failing_as
from engine.tasks.preview.files import Folder
from engine.tasks.preview.formats import PARQUET
from engine.tasks.preview.reading import SplitReader, opened_split, widened_columns
from engine.tasks.query.segments import ROWS


class StoredRows(Protocol):
    """The rows of a split that can be read from any place."""

    columns: list[Column]

    @property
    def num_rows(self) -> int: ...

    def values(self, offset: int, length: int) -> Iterator[list[Any]]:
        """Stored values (storing.py) of these rows, in the order of the columns."""
        ...


@contextlib.contextmanager
def opened_rows(header: Header) -> Iterator[StoredRows]:
    """The rows that a header names. Failed."""
    if header.get("segments") is None:
        with opened_split(header) as reader, failing_as("RowsError"):
            yield ParquetRows(reader, widened_columns(header))
    else:
        columns = [Column.from_header(one) for one in header["columns"]]
        with failing_as("RowsError"), Folder.at(header["folder"]) as folder:
            yield Segments(folder, header["segments"], columns)


@dataclass(slots=True)
class Segments:
    """What `prepare` wrote.

    folder    of the segments
    segments  {"id", "rows"} in order
    """

    folder: Folder
    segments: Sequence[Header]
    columns: list[Column]

    @property
    def num_rows(self) -> int:
        return sum(one["rows"] for one in self.segments)

    def values(self, offset: int, length: int) -> Iterator[list[Any]]:
        for batch in self._batches(offset, length):
            yield from map(list, zip(*(_stored(column, batch) for column in self.columns), strict=True))

    def _batches(self, offset: int, length: int) -> Iterator[pa.RecordBatch]:
        start = 0
        for one in self.segments:
            if start < offset + length and start + one["rows"] > offset:
                with self.folder.open(f"{one['id']}/{ROWS}") as file, parquet_files.opened_parquet(file) as parquet:
                    first = max(0, offset - start)
                    yield from _limited(parquet_files.batches(parquet, first), min(offset + length - start, one["rows"]) - first)
            start += one["rows"]

    def column_batches(self, column: Column) -> Iterator[pa.RecordBatch]:
        """One column from the first row to the last, as `v`."""
        for one in self.segments:
            with self.folder.open(f"{one['id']}/{ROWS}") as file, parquet_files.opened_parquet(file) as parquet:
                place = parquet.schema_arrow.get_field_index(column.name)
                for i in range(parquet.num_row_groups):
                    # By place: a name with a dot would be taken for a path. No column of a segment has more than one leaf.
                    found = parquet.reader.read_row_group(i, column_indices=[place], use_threads=False)
                    yield from (pa.record_batch([chunk], names=["v"]) for chunk in found.column(0).chunks)


def _limited(batches: Iterator[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    while num_rows > 0 and (batch := next(batches, None)) is not None:
        yield batch.slice(0, num_rows)
        num_rows -= batch.num_rows


def _stored(column: Column, batch: pa.RecordBatch) -> list[Any]:
    """The stored values of one column of rows.parquet."""
    values = parquet_files.values(batch.column(batch.schema.get_field_index(column.name)))
    if column.dtype == "json":
        return [None if one is None else codec.parse_exactly(one.encode()) for one in values]
    return values


class ParquetRows:
    """The Parquet files of a split. Failed, UnsupportedError for other files."""

    def __init__(self, reader: SplitReader, widened: dict[str, Column]) -> None:
        if reader.config.format != PARQUET:
            raise UnsupportedError("the rows of the split are not prepared")
        self._reader = reader
        self._storing = reader.storing()
        self.columns = reader.columns(widened)
        self.num_rows: int = reader.num_examples() or 0

    def values(self, offset: int, length: int) -> Iterator[list[Any]]:
        start = 0
        for file in self._reader.split.files:
            with self._reader.opened(file) as opened, parquet_files.opened_parquet(opened) as parquet:
                num_rows = parquet.metadata.num_rows
                if start < offset + length and start + num_rows > offset:
                    first = max(0, offset - start)
                    for batch in _limited(parquet_files.batches(parquet, first), min(offset + length - start, num_rows) - first):
                        yield from self._rows(batch)
                start += num_rows

    def _rows(self, batch: pa.RecordBatch) -> Iterator[list[Any]]:
        found = {name: parquet_files.values(one) for name, one in zip(batch.schema.names, batch.columns, strict=True)}
        nothing = [None] * batch.num_rows
        lists = [found.get(column.name, nothing) for column in self.columns]
        for row in zip(*lists, strict=True):
            yield [self._storing.store_or_text(column, one) for column, one in zip(self.columns, row, strict=True)]
