"""Batches: a whole split for `prepare`, some thousand rows at a time, in the form that its format gives most quickly.

Csv is read by pyarrow as long as pyarrow takes it. It refuses short rows and names no line, and then the reader of csv_files.py
reads the split again, from its start. Both give the same texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv

from engine.tasks.preview import arrays, csv_files, parquet_files
from engine.tasks.preview.columns import Column, Seen
from engine.tasks.preview.failures import Failed, too_big
from engine.tasks.preview.files import File
from engine.tasks.preview.formats import PARQUET
from engine.tasks.preview.limits import MAX_COLUMNS
from engine.tasks.preview.lines import clean
from engine.tasks.preview.reading import SplitReader, delimiter_of
from engine.tasks.preview.storing import Misfit, Storing
from engine.tasks.preview.values import NULLS
from engine.tasks.query.segments import PAYLOAD_ROWS

BATCH_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024


class NotPlain(Exception):
    """pyarrow does not take a file of csv."""


@dataclass(slots=True)
class Batch:
    """Some rows.

    columns  the values of each column that is there, by name: lists of what a reader gives, texts of csv, or arrays of Parquet
    numbers  the line, item or row of each row
    """

    columns: Mapping[str, Any]
    num_rows: int
    numbers: Sequence[int]
    is_text: bool = False

    def array(self, column: Column, storing: Storing) -> pa.Array:
        """The values of one column as the segment has them. arrays.RowMisfit."""
        values = self.columns.get(column.name)
        if values is None:
            return pa.nulls(self.num_rows, arrays.segment_type(column))
        if isinstance(values, list):
            return arrays.of_values(column, values, storing)
        make = arrays.of_texts if self.is_text else arrays.of_arrow
        return make(column, values, storing)

    def fits(self, column: Column, storing: Storing) -> bool:
        try:
            self.array(column, storing)
        except Misfit:
            return False
        return True

    def see(self, name: str, seen: Seen) -> None:
        """Count the values of a column in."""
        values = self.columns[name]
        if self.is_text:
            arrays.see_texts(seen.kinds, values)
            return
        for value in values if isinstance(values, list) else parquet_files.values(values):
            seen.see(name, value)

    def where(self, row: int) -> str:
        return f"line {self.numbers[row]}"


def batches(reader: SplitReader) -> Iterator[Batch]:
    """The whole split. What readers raise."""
    reader.names.clear()
    if reader.config.format == PARQUET:
        yield from _of_parquet(reader)
    elif not reader.is_text:
        yield from _of_records(reader)
    else:
        yield from _of_texts(reader)


def _of_parquet(reader: SplitReader) -> Iterator[Batch]:
    first = 0
    for file in reader.split.files:
        with reader.opened(file) as opened, parquet_files.opened_parquet(opened) as parquet:
            reader.names.update(dict.fromkeys(parquet_files.names_of(parquet)))
            for batch in parquet_files.batches(parquet, 0, PAYLOAD_ROWS):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield Batch(columns, batch.num_rows, range(first + 1, first + batch.num_rows + 1))
                first += batch.num_rows


def _of_records(reader: SplitReader) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    num_bytes = 0
    for number, size, record in reader.records(to_the_end=True):
        rows.append(record)
        numbers.append(number)
        num_bytes += size
        if len(rows) == PAYLOAD_ROWS or num_bytes >= BATCH_BYTES:
            yield _batch(rows, numbers)
            rows, numbers, num_bytes = [], [], 0
    if rows:
        yield _batch(rows, numbers)


def _batch(rows: list[dict[str, Any]], numbers: list[int]) -> Batch:
    names = dict.fromkeys(name for row in rows for name in row)
    return Batch({name: [row.get(name) for row in rows] for name in names}, len(rows), numbers)


# Csv


def _of_texts(reader: SplitReader) -> Iterator[Batch]:
    """The files by pyarrow; from the first refusal on, the careful reader gives the rows that are not there yet."""
    num_rows = 0
    try:
        for file in reader.split.files:
            for batch in _quick_texts(reader, file):
                yield batch
                num_rows += batch.num_rows
    except NotPlain:
        yield from _careful_texts(reader, num_rows)


# What pyarrow takes for something else.
_NO_DELIMITERS = '"\r\n\0'


def _quick_texts(reader: SplitReader, file: File) -> Iterator[Batch]:
    """NotPlain, also for the rows behind those that were given."""
    names, delimiter = _head(reader, file)
    if not names:
        return
    if not delimiter.isascii() or delimiter in _NO_DELIMITERS:
        raise NotPlain
    keys = [f"f{i}" for i in range(len(names))]
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=True)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(keys, pa.string()), null_values=sorted(NULLS), strings_can_be_null=True, check_utf8=False
    )
    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=keys)
    is_first = True
    with reader.opened(file) as opened:
        stream = clean(opened, reader.config.options.get("encoding"))
        try:
            for batch in pa.csv.open_csv(stream, read, parse, convert):
                batch = batch.slice(1) if is_first else batch
                is_first = False
                yield from _sliced(names, batch)
        except pa.ArrowInvalid as error:
            raise NotPlain from error


def _sliced(names: list[str], batch: pa.RecordBatch) -> Iterator[Batch]:
    for start in range(0, batch.num_rows, PAYLOAD_ROWS):
        part = batch.slice(start, PAYLOAD_ROWS)
        yield Batch(dict(zip(names, part.columns, strict=True)), part.num_rows, range(part.num_rows), is_text=True)


def _head(reader: SplitReader, file: File) -> tuple[list[str], str]:
    """The names of the columns of a file, and its delimiter. Failed `TooBigContent`, or what the reader raises."""
    names: dict[str, None] = {}
    options = reader.config.options
    delimiter = delimiter_of(options, reader.config.format) or csv_files.delimiter_in(
        lambda: reader.opened(file), options.get("encoding"), reader.limits.record_bytes
    )
    for _ in csv_files.records(lambda: reader.opened(file), delimiter, options.get("encoding"), reader.limits.record_bytes, names):
        break
    if len(names) > MAX_COLUMNS:
        raise Failed("TooBigContent", too_big(len(names), "columns", MAX_COLUMNS))
    reader.names.update(names)
    return list(names), delimiter


def _careful_texts(reader: SplitReader, skipped: int) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    num_bytes = 0
    for i, (number, size, record) in enumerate(reader.records(to_the_end=True)):
        if i < skipped:
            continue
        rows.append(record)
        numbers.append(number)
        num_bytes += size
        if len(rows) == PAYLOAD_ROWS or num_bytes >= BATCH_BYTES:
            yield _text_batch(rows, numbers)
            rows, numbers, num_bytes = [], [], 0
    if rows:
        yield _text_batch(rows, numbers)


def _text_batch(rows: list[dict[str, Any]], numbers: list[int]) -> Batch:
    batch = _batch(rows, numbers)
    columns = {name: pa.array(values, pa.string()) for name, values in batch.columns.items()}
    return Batch(columns, batch.num_rows, numbers, is_text=True)
